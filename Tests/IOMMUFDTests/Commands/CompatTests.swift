// SPDX-License-Identifier: Apache-2.0

// VFIO's container interface on an iommufd. The expected values were observed on Linux 7.3.4.

import CUAPI
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

@Suite struct ContainerTests {
  /// Makes a file whose compatibility IOAS is IOAS 1.
  private func container() throws -> ControlFile {
    let file = try ControlFile()
    let id = try file.makeIOAS()
    #expect(file.vfioIOAS(.set, id) == .success(id))
    return file
  }

  @Test("VFIO_GET_API_VERSION returns 0, and unknown numbers of the VFIO range are ENOTTY")
  func withoutArgument() throws {
    let file = try ControlFile()
    defer { file.close() }
    #expect(file.call(.vfioGetAPIVersion, 0) == .success(0))
    #expect(file.call(.vfioGetAPIVersion, 0xdead_0000) == .success(0))
    // All bits of the request are compared.
    #expect(file.call(0x4000_3b64, 0) == .failure(.inappropriateIOCTLForDevice))
    // VFIO_GROUP_GET_STATUS, DIRTY_PAGES and an unused number.
    for request: UInt32 in [0x3b67, 0x3b75, 0x3b79, 0x3b00] {
      #expect(file.call(request, 0) == .failure(.inappropriateIOCTLForDevice))
    }
  }

  @Test("VFIO_CHECK_EXTENSION reports the extensions of the kernel")
  func extensions() throws {
    let file = try container()
    defer { file.close() }
    let present: Set<UInt64> = [1, 3, 4, 9]
    for type in [UInt64](0...12) + [1 << 32 | 1, .max] {
      #expect(
        file.call(.vfioCheckExtension, type) == .success(present.contains(type) ? 1 : 0), "\(type)")
    }
  }

  @Test(
    "commands without an IOAS are ENODEV, and VFIO_DMA_CC_IOMMU is the only extension that requires an IOAS"
  )
  func withoutIOAS() throws {
    let file = try ControlFile()
    defer { file.close() }
    for type in [1, 3, 9] as [UInt64] {
      #expect(file.call(.vfioCheckExtension, type) == .success(1))
    }
    let absent: Result<Int32, Errno> = .failure(.operationNotSupportedByDevice)
    #expect(file.call(.vfioCheckExtension, 4) == absent)
    #expect(file.call(.vfioSetIOMMU, 1) == absent)
    #expect(file.call(.vfioSetIOMMU, 3) == absent)
    #expect(file.call(.vfioSetIOMMU, 8) == .failure(.invalidArgument))
    let memory = TestMemory()
    memory.store(vfio_iommu_type1_dma_map(argsz: 32, flags: 3, vaddr: 0, iova: 0, size: 4096))
    #expect(file.call(.vfioIOMMUMapDMA, memory.address) == absent)
    #expect(file.call(.vfioIOMMUUnmapDMA, memory.address) == .failure(.invalidArgument))
    memory.store(UInt32(0), at: 4)
    #expect(file.call(.vfioIOMMUUnmapDMA, memory.address) == absent)
    #expect(file.call(.vfioIOMMUGetInfo, memory.address) == absent)
  }

  @Test("VFIO_SET_IOMMU with TYPE1 disables large pages, and TYPE1v2 does not enable them again")
  func setIOMMU() throws {
    let file = try container()
    defer { file.close() }
    for type in [0, 2, 4, 5, 6, 7, 8, 9, 10, 1 << 32 | 1] as [UInt64] {
      #expect(file.call(.vfioSetIOMMU, type) == .failure(.invalidArgument), "\(type)")
    }
    #expect(file.call(.vfioSetIOMMU, 3) == .success(0))
    #expect(file.hugePages(of: 1) == .success(1))
    #expect(file.call(.vfioSetIOMMU, 1) == .success(0))
    #expect(file.hugePages(of: 1) == .success(0))
    // TYPE1v2 does not enable large pages again.
    #expect(file.call(.vfioSetIOMMU, 3) == .success(0))
    #expect(file.hugePages(of: 1) == .success(0))
  }

  @Test(
    "the shortest struct is the first version, and the first error decides",
    arguments: [Ioctl.vfioIOMMUMapDMA, .vfioIOMMUUnmapDMA, .vfioIOMMUGetInfo])
  func arguments(_ request: Ioctl) throws {
    let file = try container()
    defer { file.close() }
    let minimum =
      switch request {
      case .vfioIOMMUMapDMA: 32
      case .vfioIOMMUUnmapDMA: 24
      default: 16
      }
    #expect(file.call(request, 0) == .failure(.badAddress))
    let memory = TestMemory()
    let offset = memory.byteCount - minimum
    memory.store(UInt32(minimum - 1), at: offset)
    #expect(file.call(request, memory.address + UInt64(offset)) == .failure(.invalidArgument))
    #expect(file.call(request, memory.address + UInt64(offset) + 4) == .failure(.badAddress))
  }

  @Test("unknown flags are refused")
  func unknownFlags() throws {
    let file = try container()
    defer { file.close() }
    let memory = TestMemory()
    for bit in 2..<32 {
      memory.store(
        vfio_iommu_type1_dma_map(argsz: 32, flags: 1 << bit, vaddr: 0, iova: 0, size: 4096))
      #expect(file.call(.vfioIOMMUMapDMA, memory.address) == .failure(.invalidArgument))
    }
    for bit in (0..<32).filter({ $0 != 1 }) {
      memory.store(UInt32(24))
      memory.store(UInt32(1) << bit, at: 4)
      #expect(file.call(.vfioIOMMUUnmapDMA, memory.address) == .failure(.invalidArgument))
    }
  }
}

/// IOMMU_VFIO_IOAS.
@Suite struct ContainerIOASTests {
  @Test("IOMMU_VFIO_IOAS sets, returns and clears the compatibility IOAS")
  func choice() throws {
    let file = try ControlFile()
    defer { file.close() }
    #expect(file.vfioIOAS(.get) == .failure(.operationNotSupportedByDevice))
    #expect(file.vfioIOAS(.clear) == .success(0))
    #expect(file.vfioIOAS(.set, 1) == .failure(.noSuchFileOrDirectory))
    _ = try file.makeIOAS()
    _ = try file.makeIOAS()
    #expect(file.vfioIOAS(.set, 2) == .success(2))
    #expect(file.vfioIOAS(.get, 99) == .success(2))
    #expect(file.vfioIOAS(.set, 1) == .success(1))
    #expect(file.vfioIOAS(.get) == .success(1))
    #expect(file.vfioIOAS(.clear, 1) == .success(1))
    #expect(file.vfioIOAS(.get) == .failure(.operationNotSupportedByDevice))
  }

  @Test("the compatibility IOAS can be destroyed, and its ID is then unknown")
  func endsWithItsIOAS() throws {
    let file = try ControlFile()
    defer { file.close() }
    _ = try file.makeIOAS()
    #expect(file.vfioIOAS(.set, 1) == .success(1))
    #expect(file.destroy(1) == nil)
    #expect(file.vfioIOAS(.get) == .failure(.operationNotSupportedByDevice))
    _ = try file.makeIOAS()
    #expect(file.vfioIOAS(.get) == .failure(.operationNotSupportedByDevice))
  }

  @Test("an unknown operation and a reserved field of IOMMU_VFIO_IOAS are EOPNOTSUPP")
  func operations() throws {
    let file = try ControlFile()
    defer { file.close() }
    for op: UInt16 in [3, 4, 0x100, .max] {
      var command = iommu_vfio_ioas(size: 12, ioas_id: 0, op: op, __reserved: 0)
      #expect(file.call(.vfioIOAS, &command) == .notSupported)
    }
    var command = iommu_vfio_ioas(size: 12, ioas_id: 0, op: 2, __reserved: 1)
    #expect(file.call(.vfioIOAS, &command) == .notSupported)
  }
}

extension ControlFile {
  enum VFIOIOASOperation: UInt16 { case get, set, clear }

  /// - Returns: The ID in the struct after the call.
  func vfioIOAS(_ operation: VFIOIOASOperation, _ id: UInt32 = 0) -> Result<UInt32, Errno> {
    var command = iommu_vfio_ioas(size: 12, ioas_id: id, op: operation.rawValue, __reserved: 0)
    if let error = call(.vfioIOAS, &command) { return .failure(error) }
    return .success(command.ioas_id)
  }

  func hugePages(of id: UInt32) -> Result<UInt64, Errno> {
    var command = iommu_option(
      size: 24, option_id: 1, op: 1, __reserved: 0, object_id: id, val64: 77)
    if let error = call(.option, &command) { return .failure(error) }
    return .success(command.val64)
  }
}

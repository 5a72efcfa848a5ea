// SPDX-License-Identifier: Apache-2.0

// No command waits for the memory of the client while it holds the lock of the context, so a client
// that stalls an access (userfaultfd, a FUSE file) does not stall other calls on the same file. The
// tests call another command from within each access. With the lock held that call would deadlock.

import CUAPI
import Host
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

/// A client that calls a function before each access to its memory.
private final class ObservedClient: Client, @unchecked Sendable {
  private let client: InProcessClient
  var onAccess: () -> Void = {}
  /// Called with the address of each access.
  var onRange: (UInt64) -> Void = { _ in }

  init(_ client: InProcessClient) { self.client = client }

  var task: HostTask { client.task }

  func copyIn(
    from address: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) {
    onAccess()
    onRange(address)
    try client.copyIn(from: address, into: buffer)
  }

  func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
    onAccess()
    onRange(address)
    try client.copyOut(bytes, to: address)
  }

  func addressSpace() throws(Errno) -> AddressSpace { try client.addressSpace() }
  func duplicateDescriptor(_ number: Int32) throws(Errno) -> OwnedDescriptor {
    try client.duplicateDescriptor(number)
  }
  func openFile(_ number: Int32) throws(Errno) -> (any OpenFile)? { try client.openFile(number) }
  func install(
    _ file: any OpenFile, publish: (_ number: Int32) throws(Errno) -> Void
  ) throws(Errno) {
    try client.install(file, publish: publish)
  }
}

@Suite struct LockTests {
  private static let requests: [Ioctl] =
    (Dispatcher.handlers + Dispatcher.simulatorHandlers).compactMap {
      IoctlTable.iommufd[$0.number]
    } + [.vfioIOMMUGetInfo, .vfioIOMMUMapDMA, .vfioIOMMUUnmapDMA]

  /// Stores a valid argument of `request` for IOAS 1.
  private func store(_ request: Ioctl, in memory: TestMemory) {
    let (array, buffer) = (memory.address + 2048, UInt64(0x1000_0000))
    memory.bytes.initializeMemory(as: UInt8.self, repeating: 0)
    memory.store(iommu_iova_range(start: 0, last: .max), at: 2048)
    switch request {
    case .destroy: memory.store(iommu_destroy(size: 8, id: 2))
    case .ioasAlloc: memory.store(iommu_ioas_alloc(size: 12, flags: 0, out_ioas_id: 0))
    case .ioasAllowIOVAs:
      memory.store(
        iommu_ioas_allow_iovas(
          size: 24, ioas_id: 1, num_iovas: 1, __reserved: 0, allowed_iovas: array))
    case .ioasCopy:
      memory.store(
        iommu_ioas_copy(
          size: 40, flags: 4, dst_ioas_id: 1, src_ioas_id: 1, length: 4096, dst_iova: 0,
          src_iova: 0x10_0000))
    case .ioasIOVARanges:
      memory.store(
        iommu_ioas_iova_ranges(
          size: 32, ioas_id: 1, num_iovas: 1, __reserved: 0, allowed_iovas: array,
          out_iova_alignment: 0))
    case .ioasMap:
      memory.store(
        iommu_ioas_map(
          size: 40, flags: 4, ioas_id: 1, __reserved: 0, user_va: buffer, length: 4096, iova: 0))
    case .ioasMapFile:
      memory.store(
        iommu_ioas_map_file(
          size: 40, flags: 4, ioas_id: 1, fd: 0, start: 0, length: 4096, iova: 0))
    case .ioasUnmap:
      memory.store(iommu_ioas_unmap(size: 24, ioas_id: 1, iova: 0, length: .max))
    case .option:
      memory.store(
        iommu_option(size: 24, option_id: 1, op: 1, __reserved: 0, object_id: 1, val64: 0))
    case .vfioIOAS: memory.store(iommu_vfio_ioas(size: 12, ioas_id: 0, op: 0, __reserved: 0))
    case .ioasChangeProcess: memory.store(iommu_ioas_change_process(size: 8, __reserved: 0))
    case .simFaultLogAlloc:
      memory.store(iommufd_sim_fault_log_alloc(size: 16, flags: 0, dev_id: 0, out_fd: 0))
    case .vfioIOMMUMapDMA:
      memory.store(
        vfio_iommu_type1_dma_map(argsz: 32, flags: 3, vaddr: buffer, iova: 0, size: 4096))
    case .vfioIOMMUUnmapDMA, .vfioIOMMUGetInfo:
      // The structs have argsz and flags in the same places, and UNMAP_DMA has iova and size.
      memory.store(
        vfio_iommu_type1_dma_map(
          argsz: request == .vfioIOMMUGetInfo ? 512 : 24, flags: 0, vaddr: 0x10_0000, iova: 4096,
          size: 0))
    case .faultQueueAlloc:
      memory.store(iommu_fault_alloc(size: 16, flags: 0, out_fault_id: 0, out_fault_fd: 0))
    case .viommuAlloc: memory.store(UInt32(48))
    case .hwptAlloc: memory.store(UInt32(48))
    case .hwptGetDirtyBitmap: memory.store(UInt32(48))
    case .hwptInvalidate: memory.store(UInt32(32))
    case .hwptSetDirtyTracking: memory.store(UInt32(16))
    default: memory.store(UInt32(40))
    }
  }

  @Test(
    "no command holds the context's lock while it accesses the client's memory", arguments: requests
  )
  func accessesWithoutTheLock(_ request: Ioctl) throws {
    let file = try ControlFile()
    defer { file.close() }
    let ioas = try file.makeIOAS()
    _ = try file.makeIOAS()
    #expect(file.vfioIOAS(.set, ioas) == .success(ioas))
    let memory = TestMemory()
    store(.vfioIOMMUMapDMA, in: memory)
    memory.store(UInt64(0x10_0000), at: 16)
    #expect(file.call(.vfioIOMMUMapDMA, memory.address) == .success(0))

    let client = ObservedClient(file.client)
    var accesses = 0
    client.onAccess = {
      accesses += 1
      #expect(file.hugePages(of: ioas) == .success(1))
    }
    store(request, in: memory)
    let open = try #require(file.client.file(file.number))
    let result = Result { () throws(Errno) in
      try open.ioctl(request.number.rawValue, argument: memory.address, client: client)
    }
    let expected: Result<Int32, Errno> =
      switch request {
      case .ioasNoIOMMUGetPA: .failure(.notSupported)
      // These commands need a device or an HWPT and have their own test.
      case .getHardwareInfo, .hwptAlloc, .hwptGetDirtyBitmap, .hwptInvalidate,
        .hwptSetDirtyTracking, .vdeviceAlloc:
        .failure(.noSuchFileOrDirectory)
      // The type is 0.
      case .hardwareQueueAlloc, .veventqAlloc, .viommuAlloc: .failure(.notSupported)
      case .ioasChangeProcess: .failure(.invalidArgument)  // what is mapped is no file
      default: .success(0)
      }
    #expect(result == expected)
    #expect(accesses > 0)
    if request == .simFaultLogAlloc {
      file.client.close(Int32(bitPattern: memory.load(iommufd_sim_fault_log_alloc.self).out_fd))
    }
    if request == .faultQueueAlloc {
      file.client.close(Int32(bitPattern: memory.load(iommu_fault_alloc.self).out_fault_fd))
    }
  }

  @Test("the context's lock is free while a driver's structure or a dirty bitmap is accessed")
  func memoryBesidesTheCommand() throws {
    let mock = try MockFile()
    defer { mock.close() }
    let ioas = try mock.file.makeIOAS()
    let device = try mock.makeDevice(ioas).get().bound
    let hwpt = try mock.allocate(
      device, on: ioas, flags: IOMMU_HWPT_ALLOC_DIRTY_TRACKING.rawValue
    ).get()
    let pages = TestMemory(pages: 2)
    #expect(mock.map(ioas, pages, at: UInt64(MOCK_APERTURE_START)) == nil)
    var tracking = iommu_hwpt_set_dirty_tracking(size: 16, flags: 1, hwpt_id: hwpt, __reserved: 0)
    #expect(mock.file.call(.hwptSetDirtyTracking, &tracking) == nil)
    pages.store(UInt64(3))
    let dirty = mock.test(IOMMU_TEST_OP_DIRTY, id: hwpt) {
      $0.dirty.iova = UInt64(MOCK_APERTURE_START)
      $0.dirty.length = 8192
      $0.dirty.page_size = 4096
      $0.dirty.uptr = pages.address
    }
    #expect(dirty.error == nil)

    let client = ObservedClient(mock.file.client)
    let memory = TestMemory()
    var touched: Set<UInt64> = []
    client.onAccess = { #expect(mock.file.hugePages(of: ioas) == .success(1)) }
    client.onRange = { touched.insert($0 - memory.address) }
    let open = try #require(mock.file.client.file(mock.file.number))
    var allocation = iommu_hwpt_alloc()
    allocation.size = 48
    (allocation.dev_id, allocation.pt_id) = (device, ioas)
    (allocation.data_type, allocation.data_len) = (UInt32(IOMMU_HWPT_DATA_SELFTEST), 8)
    allocation.data_uptr = memory.address + 2048
    memory.store(allocation)
    _ = try open.ioctl(
      Ioctl.hwptAlloc.number.rawValue, argument: memory.address, client: client)
    #expect(touched.contains(2048))
    var bitmap = iommu_hwpt_get_dirty_bitmap()
    (bitmap.size, bitmap.hwpt_id, bitmap.page_size) = (48, hwpt, 4096)
    (bitmap.iova, bitmap.length) = (UInt64(MOCK_APERTURE_START), 8192)
    bitmap.data = memory.address + 1024
    memory.store(bitmap)
    _ = try open.ioctl(
      Ioctl.hwptGetDirtyBitmap.number.rawValue, argument: memory.address, client: client)
    #expect(touched.contains(1024))
    #expect(memory.load(UInt64.self, at: 1024) == 3)
  }

  @Test("an IOAS is busy while the list of its ranges is read, and can be destroyed afterwards")
  func ioasOfAListIsBusy() throws {
    let file = try ControlFile()
    defer { file.close() }
    let ioas = try file.makeIOAS()
    let memory = TestMemory()
    store(.ioasAllowIOVAs, in: memory)
    let client = ObservedClient(file.client)
    var results: [Errno?] = []
    client.onAccess = { [unowned client] in
      // The first access reads the struct, before an object is looked up.
      results.append(results.isEmpty ? nil : file.destroy(ioas))
      if results.count == 2 { client.onAccess = {} }
    }
    let open = try #require(file.client.file(file.number))
    #expect(
      try open.ioctl(
        Ioctl.ioasAllowIOVAs.number.rawValue, argument: memory.address, client: client) == 0)
    #expect(results == [nil, .resourceBusy])
    #expect(file.destroy(ioas) == nil)
  }
}

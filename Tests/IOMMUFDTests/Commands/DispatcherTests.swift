// SPDX-License-Identifier: Apache-2.0

// Rules that apply to every row of the ioctl table. The expectations of `lengths` are those of the
// kernel's selftest cmd_length. The others were observed on Linux 7.3.4.

import CUAPI
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

extension IoctlHandler: CustomTestStringConvertible {
  package var testDescription: String {
    IoctlTable.iommufd[number]?.name ?? "0x\(String(number.rawValue, radix: 16))"
  }
}

@Suite struct DispatcherTests {
  static let handlers = Dispatcher.handlers + Dispatcher.simulatorHandlers

  /// Calls `handler` with a struct of `size` bytes at the end of accessible memory. All fields
  /// except the size are zero.
  private func result(
    of handler: IoctlHandler, size: Int, in memory: TestMemory = TestMemory(),
    lastByte: UInt8 = 0
  ) throws -> Result<Int32, Errno> {
    let file = try ControlFile()
    defer { file.close() }
    let offset = memory.byteCount - size
    memory.bytes[offset...].copyBytes(from: [UInt8](repeating: 0, count: size))
    memory.store(UInt32(size), at: offset)
    if lastByte != 0 { memory.store(lastByte, at: memory.byteCount - 1) }
    return file.call(handler.number.rawValue, memory.address + UInt64(offset))
  }

  @Test(
    "a struct must be as long as the minimum, and a surplus must be zero", arguments: handlers)
  func lengths(_ handler: IoctlHandler) throws {
    let exact = try result(of: handler, size: handler.size)
    #expect(
      try result(of: handler, size: handler.minimumSize - 1) == .failure(.invalidArgument))
    #expect(exact != .failure(.argListTooLong))
    #expect(try result(of: handler, size: handler.size + 1) == exact)
    #expect(
      try result(of: handler, size: handler.size + 1, lastByte: 0xff)
        == .failure(.argListTooLong))
    let pages = TestMemory(pages: 40)
    #expect(try result(of: handler, size: 150_000, in: pages) == exact)
    #expect(
      try result(of: handler, size: 150_000, in: pages, lastByte: 1) == .failure(.argListTooLong))
  }

  @Test(
    "the fields behind the shortest struct count as zero and are not written", arguments: handlers
  )
  func shortestStruct(_ handler: IoctlHandler) throws {
    #expect(
      try result(of: handler, size: handler.minimumSize)
        == result(of: handler, size: handler.size))
  }

  @Test(
    "the surplus of a struct is checked before the struct is read, in ascending order",
    arguments: handlers)
  func surplusInBadMemory(_ handler: IoctlHandler) throws {
    let file = try ControlFile()
    defer { file.close() }
    let memory = TestMemory(pages: 2)
    let start = memory.byteCount - handler.size - 8
    memory.store(UInt32(handler.size + 64), at: start)
    #expect(
      file.call(handler.number.rawValue, memory.address + UInt64(start)) == .failure(.badAddress))
    memory.store(UInt8(1), at: memory.byteCount - 1)
    #expect(
      file.call(handler.number.rawValue, memory.address + UInt64(start))
        == .failure(.argListTooLong))
    // A size beyond the end of the address space, when the first surplus byte is not zero.
    memory.store(UInt32.max, at: start)
    #expect(
      file.call(handler.number.rawValue, memory.address + UInt64(start))
        == .failure(.argListTooLong))
  }

  @Test(
    "a struct that cannot be read is EFAULT, and one that is too short is EINVAL before that",
    arguments: handlers)
  func structInBadMemory(_ handler: IoctlHandler) throws {
    let file = try ControlFile()
    defer { file.close() }
    let memory = TestMemory(pages: 2)
    // The size can be read and the last member cannot.
    let crossing = memory.byteCount - 4
    memory.store(UInt32(handler.size), at: crossing)
    #expect(
      file.call(handler.number.rawValue, memory.address + UInt64(crossing)) == .failure(.badAddress)
    )
    // A size that is too short is an error before the read.
    memory.store(UInt32(handler.minimumSize - 1), at: crossing)
    #expect(
      file.call(handler.number.rawValue, memory.address + UInt64(crossing))
        == .failure(.invalidArgument))
    for address in [0, 1, memory.end, memory.end - 3, 0xffff_8000_0000_0000, UInt64.max - 2] {
      #expect(file.call(handler.number.rawValue, address) == .failure(.badAddress), "\(address)")
    }
  }

  @Test("the size is read before type and direction of the request are compared")
  func foreignNumbers() throws {
    let file = try ControlFile()
    defer { file.close() }
    let memory = TestMemory()
    memory.store(UInt32(64))
    let known = Ioctl.ioasAlloc.number.rawValue
    for request: UInt32 in [
      known ^ 0x100, known | 0x4000_0000, known | 0xc008_0000, 0x80, 0x3d95,
    ] {
      #expect(
        file.call(request, memory.address) == .failure(.inappropriateIOCTLForDevice),
        "\(request)")
      #expect(file.call(request, 0) == .failure(.badAddress), "\(request)")
    }
    // The argument of a number outside the table is not read.
    for request: UInt32 in [0x3b96, 0x3b7f, 0x3be0, 0x3be1, 0x40003be0, 0x3bff, 0x5401, 0] {
      #expect(
        file.call(request, 0) == .failure(.inappropriateIOCTLForDevice), "\(request)")
    }
  }

  @Test("every ioctl that the catalogue has for an iommufd and a container is answered")
  func everyRowHasAHandler() throws {
    #expect(Set(Dispatcher.handlers.map(\.number)) == Set(Ioctl.ofIOMMUFD.map(\.number)))
    let file = try ControlFile()
    defer { file.close() }
    for ioctl in Ioctl.ofContainer {
      #expect(file.call(ioctl, 0) != .failure(.inappropriateIOCTLForDevice), "\(ioctl)")
    }
  }

  /// The sizes are those of uapi/linux/iommufd.h.
  @Test("each command has the struct size of the header and the minimum of the kernel")
  func minimums() throws {
    let expected: [Ioctl: (Int, Int)] = [
      .destroy: (8, 8), .faultQueueAlloc: (16, 16), .getHardwareInfo: (40, 32),
      .hardwareQueueAlloc: (40, 40), .hwptAlloc: (48, 24), .hwptGetDirtyBitmap: (48, 48),
      .hwptInvalidate: (32, 32), .hwptSetDirtyTracking: (16, 16), .ioasAlloc: (12, 12),
      .ioasAllowIOVAs: (24, 24), .ioasChangeProcess: (8, 8), .ioasCopy: (40, 40),
      .ioasIOVARanges: (32, 32), .ioasMap: (40, 40), .ioasMapFile: (40, 40),
      .ioasNoIOMMUGetPA: (40, 40), .ioasUnmap: (24, 24), .option: (24, 24),
      .simFaultLogAlloc: (16, 16), .vdeviceAlloc: (24, 24),
      .veventqAlloc: (32, 28), .vfioIOAS: (12, 12), .viommuAlloc: (40, 24),
    ]
    for handler in Self.handlers {
      let ioctl = try #require(IoctlTable.iommufd[handler.number])
      let (size, minimum) = try #require(expected[ioctl])
      #expect(handler.size == size, "\(handler.testDescription)")
      #expect(handler.minimumSize == minimum, "\(handler.testDescription)")
    }
    #expect(Set(Self.handlers.map(\.number)) == Set(expected.keys.map(\.number)))
  }
}

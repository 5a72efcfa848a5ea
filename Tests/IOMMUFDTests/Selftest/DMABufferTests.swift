// SPDX-License-Identifier: Apache-2.0

// dma-bufs of the selftest interface, which can be revoked.

import CUAPI
import IOMMU
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

@Suite struct DMABufferOperationTests {
  private let mock: MockFile
  private let ioas: UInt32
  private let argument = TestMemory()

  init() throws {
    mock = try MockFile()
    ioas = try mock.file.makeIOAS()
  }

  private func call(
    _ operation: Int, on file: ControlFile? = nil, _ prepare: (inout iommu_test_cmd) -> Void
  ) -> Result<Int32, Errno> {
    var command = iommu_test_cmd()
    command.size = UInt32(MemoryLayout<iommu_test_cmd>.size)
    command.op = UInt32(operation)
    prepare(&command)
    argument.base.bindMemory(to: iommu_test_cmd.self, capacity: 1).pointee = command
    return (file ?? mock.file).call(.test, argument.address)
  }

  /// Makes a dma-buf. The ioctl returns its descriptor.
  private func makeBuffer(_ length: UInt32) -> Result<Int32, Errno> {
    call(IOMMU_TEST_OP_DMABUF_GET) { $0.dmabuf_get.length = length }
  }

  private func revoke(_ buffer: Int32, _ isRevoked: Bool, by file: ControlFile? = nil) -> Errno? {
    call(IOMMU_TEST_OP_DMABUF_REVOKE, on: file) {
      $0.dmabuf_revoke.dmabuf_fd = buffer
      $0.dmabuf_revoke.revoked = isRevoked ? 1 : 0
    }.error
  }

  private func map(_ buffer: Int32, _ start: UInt64, _ length: UInt64, at iova: UInt64) -> Errno? {
    var command = iommu_ioas_map_file(
      size: 40, flags: 7, ioas_id: ioas, fd: buffer, start: start, length: length, iova: iova)
    return mock.file.call(.ioasMapFile, &command)
  }

  private func physical(_ iova: UInt64) throws -> UInt64? {
    let context = try mock.file.context
    return try context.lock.withLock {
      try context.ioas(ObjectID(ioas)).pageTable.domains.first?.physicalAddress(of: IOVA(iova))?
        .rawValue
    }
  }

  @Test("the length of a dma-buf and the range of its mapping are checked")
  func lengths() throws {
    defer { mock.close() }
    #expect(makeBuffer(0).error == .invalidArgument)
    #expect(makeBuffer(.max).error == .invalidArgument)
    #expect(makeBuffer(512 * 4096 + 1).error == .invalidArgument)
    let buffer = try makeBuffer(5000).get()
    #expect(map(buffer, 0, 0, at: 0x100_0000) == .invalidArgument)
    #expect(map(buffer, 8192, 1, at: 0x100_0000) == .invalidArgument)
    #expect(map(buffer, 4096, 4097, at: 0x100_0000) == .invalidArgument)
    #expect(map(buffer, .max - 1, 3, at: 0x100_0000) == .overflow)
    #expect(map(buffer, 4096, 4096, at: 0x100_0000) == nil)
  }

  @Test("a revoked dma-buf is unmapped, and its mappings do not return when the revocation ends")
  func revocationUnmapsForGood() throws {
    defer { mock.close() }
    let device = try mock.makeDevice(ioas).get()
    let buffer = try makeBuffer(8192).get()
    #expect(map(buffer, 0, 8192, at: 0x100_0000) == nil)
    let start = try #require(try physical(0x100_0000))
    // The buffer is physically contiguous, like a BAR.
    #expect(try physical(0x100_1800) == start + 0x1800)
    // Any context can revoke the buffer.
    let other = try ControlFile(
      client: mock.file.client, memory: mock.file.memory, hasSelftest: true)
    defer { other.close() }
    #expect(revoke(buffer, true, by: other) == nil)
    #expect(try physical(0x100_0000) == nil)
    #expect(map(buffer, 0, 8192, at: 0x101_0000) == .operationNotSupportedByDevice)
    #expect(revoke(buffer, false) == nil)
    #expect(try physical(0x100_0000) == nil)
    #expect(map(buffer, 0, 8192, at: 0x101_0000) == nil)
    #expect(try physical(0x101_1000) != nil)
    // A new HWPT has only the mappings that remain.
    let second = try mock.allocate(device.bound, on: ioas).get()
    #expect(mock.destroy(device.device) == nil)
    #expect(try physical(0x100_0000) == nil)
    #expect(try physical(0x101_0000) != nil)
    mock.file.client.close(buffer)
    #expect(try physical(0x101_0000) != nil)
    #expect(mock.destroy(second) == nil)
    #expect(mock.file.memory.pinnedFrames == 0)
  }

  @Test("an access cannot pin or copy a dma-buf, and the area cannot be cut")
  func accessesAreRefused() throws {
    defer { mock.close() }
    let buffer = try makeBuffer(8192).get()
    #expect(map(buffer, 0, 8192, at: 0x100_0000) == nil)
    let access = try mock.test(IOMMU_TEST_OP_CREATE_ACCESS, id: ioas) {
      $0.create_access.flags = 1
    }.get().create_access.out_access_fd
    let pin = mock.test(IOMMU_TEST_OP_ACCESS_PAGES, id: access) {
      $0.access_pages.iova = 0x100_0000
      $0.access_pages.length = 4096
    }
    #expect(pin.error == .invalidArgument)
    let copy = mock.test(IOMMU_TEST_OP_ACCESS_RW, id: access) {
      $0.access_rw.iova = 0x100_0000
      $0.access_rw.length = 1
      $0.access_rw.uptr = argument.address + 2048
    }
    #expect(copy.error == .invalidArgument)
    let context = try mock.file.context
    try context.lock.withLock {
      let table = try context.ioas(ObjectID(ioas)).pageTable
      #expect(throws: Errno.notSupported) { try table.cut(around: 0x100_0000, length: 4096) }
    }
  }

  @Test("only a dma-buf can be revoked")
  func onlyBuffersCanBeRevoked() throws {
    defer { mock.close() }
    #expect(revoke(mock.file.number, true) == .invalidArgument)
    #expect(revoke(9999, true) == .badFileDescriptor)
  }
}

// SPDX-License-Identifier: Apache-2.0

// Accesses: users of mapped memory without a domain. The expected values were observed on Linux
// 7.3.4.

import CUAPI
import Glibc
import IOMMU
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

private let write = UInt32(MOCK_ACCESS_RW_WRITE)
private let slow = UInt32(MOCK_ACCESS_RW_SLOW_PATH)

@Suite struct AccessOperationTests {
  private let mock: MockFile
  private let ioas: UInt32
  private let memory = TestMemory(pages: 4)
  private let scratch = TestMemory()

  init() throws {
    mock = try MockFile()
    ioas = try mock.file.makeIOAS()
  }

  private func create(_ ioas: UInt32, pinning: Bool = true) -> Result<UInt32, Errno> {
    mock.test(IOMMU_TEST_OP_CREATE_ACCESS, id: ioas) {
      $0.create_access.flags = pinning ? 1 : 0
    }.map { $0.create_access.out_access_fd }
  }

  private func closeAccess(_ access: UInt32) {
    mock.file.client.close(Int32(bitPattern: access))
  }

  private func pin(
    _ access: UInt32, _ iova: UInt64, pages: UInt64 = 1, expecting: UInt64 = 0,
    readOnly: Bool = false
  ) -> Result<UInt32, Errno> {
    mock.test(IOMMU_TEST_OP_ACCESS_PAGES, id: access, readOnly: readOnly) {
      $0.access_pages.iova = iova
      $0.access_pages.length = pages * 4096
      $0.access_pages.uptr = expecting
    }.map { $0.access_pages.out_access_pages_id }
  }

  private func unpin(_ access: UInt32, _ item: UInt32) -> Errno? {
    mock.test(IOMMU_TEST_OP_DESTROY_ACCESS_PAGES, id: access) {
      $0.destroy_access_pages.access_pages_id = item
    }.error
  }

  private func copy(_ access: UInt32, _ iova: UInt64, _ count: Int, _ flags: UInt32) -> Errno? {
    mock.test(IOMMU_TEST_OP_ACCESS_RW, id: access) {
      $0.access_rw.iova = iova
      $0.access_rw.length = UInt64(count)
      $0.access_rw.uptr = scratch.address
      $0.access_rw.flags = flags
    }.error
  }

  private func move(_ access: UInt32, to ioas: UInt32) -> Errno? {
    mock.test(IOMMU_TEST_OP_ACCESS_REPLACE_IOAS, id: access) {
      $0.access_replace_ioas.ioas_id = ioas
    }.error
  }

  private func unmap(_ iova: UInt64, pages: UInt64) -> Result<UInt64, Errno> {
    var command = iommu_ioas_unmap(size: 24, ioas_id: ioas, iova: iova, length: pages * 4096)
    if let error = mock.file.call(.ioasUnmap, &command) { return .failure(error) }
    return .success(command.length)
  }

  private func alignment(of ioas: UInt32) throws -> UInt64 {
    let context = try mock.file.context
    return try context.lock.withLock { try context.ioas(ObjectID(ioas)).pageTable.alignment }
  }

  private var pinnedFrames: Int { mock.file.memory.pinnedFrames }

  // MARK: The object

  @Test("an access has an ID that is not returned and stays allocated as long as the descriptor")
  func isHidden() throws {
    defer { mock.close() }
    let access = try create(ioas).get()
    #expect(try mock.file.makeIOAS() == ioas + 2)
    #expect(mock.destroy(ioas + 1) == .resourceBusy)
    #expect(mock.destroy(ioas) == .resourceBusy)
    closeAccess(access)
    #expect(mock.destroy(ioas + 1) == .noSuchFileOrDirectory)
    #expect(mock.destroy(ioas) == nil)
  }

  @Test(
    "the descriptor keeps the context, and pinned pages stay pinned after the iommufd is closed")
  func outlivesTheFile() throws {
    let access = try create(ioas).get()
    #expect(mock.map(ioas, memory, at: 0x10000) == nil)
    #expect(try pin(access, 0x10000, pages: 4).get() == 0)
    mock.close()
    #expect(pinnedFrames == 4)
    closeAccess(access)
    #expect(pinnedFrames == 0)
  }

  @Test("an access that cannot be created leaves no ID")
  func failuresLeaveNothing() throws {
    defer { mock.close() }
    #expect(create(99).error == .noSuchFileOrDirectory)
    let unwritable = mock.test(IOMMU_TEST_OP_CREATE_ACCESS, id: ioas, readOnly: true)
    #expect(unwritable.error == .badAddress)
    mock.file.client.limitFiles(to: 1)
    #expect(create(ioas).error == .noMemory)
    // The next object gets the ID that the failures have released.
    #expect(try mock.file.makeIOAS() == ioas + 1)
    #expect(mock.destroy(ioas) == nil)
  }

  @Test("an operation on a descriptor of another kind is refused")
  func otherDescriptorsAreRefused() throws {
    defer { mock.close() }
    #expect(pin(UInt32(mock.file.number), 0).error == .badFileDescriptorState)
    #expect(pin(9999, 0).error == .badFileDescriptorState)
    #expect(pin(try create(ioas, pinning: false).get(), 0).error == .notSupported)
  }

  @Test(
    "an access that pins requires page alignment of its IOAS, and a refused access stays with its old IOAS"
  )
  func pinningRaisesTheAlignment() throws {
    defer { mock.close() }
    let access = try create(ioas).get()
    #expect(try alignment(of: ioas) == 4096)
    closeAccess(access)
    #expect(try alignment(of: ioas) == 1)
    var uneven = iommu_ioas_map(
      size: 40, flags: 7, ioas_id: ioas, __reserved: 0, user_va: memory.address, length: 0x800,
      iova: 0x10000)
    #expect(mock.file.call(.ioasMap, &uneven) == nil)
    #expect(create(ioas).error == .addressInUse)
    let second = try mock.file.makeIOAS()
    let other = try create(second).get()
    #expect(move(other, to: ioas) == .addressInUse)
    // The access stays with its IOAS.
    #expect(try alignment(of: second) == 4096)
    #expect(mock.destroy(second) == .resourceBusy)
  }

  // MARK: Pins

  @Test("pins of the same pages share their frames")
  func pinsAreShared() throws {
    defer { mock.close() }
    #expect(mock.map(ioas, memory, at: 0x10000) == nil)
    let access = try create(ioas).get()
    let first = try pin(access, 0x10000, pages: 2, expecting: memory.address).get()
    let second = try pin(access, 0x11000, pages: 2, expecting: memory.address + 4096).get()
    #expect((first, second) == (0, 1))
    #expect(pinnedFrames == 3)
    #expect(pin(access, 0x10000, expecting: memory.address + 4096).error == Errno(rawValue: 52))
    #expect(unpin(access, first) == nil)
    #expect(pinnedFrames == 2)
    #expect(unpin(access, first) == .noSuchFileOrDirectory)
    #expect(unpin(access, second) == nil)
    #expect(pinnedFrames == 0)
  }

  @Test("a pin that reaches a hole or the end of the mapping pins nothing")
  func failedPin() throws {
    defer { mock.close() }
    #expect(mock.map(ioas, memory, at: 0x10000) == nil)
    let access = try create(ioas).get()
    memory.protect(.none, page: 3)
    #expect(pin(access, 0x10000, pages: 4).error == .badAddress)
    #expect(pin(access, 0x12000, pages: 3).error == .badAddress)
    memory.protect(.readWrite)
    // The mapping ends there.
    #expect(pin(access, 0x10000, pages: 5).error == .noSuchFileOrDirectory)
    #expect(pin(access, 0x10800).error == .invalidArgument)
    #expect(pin(access, 0x10000, pages: 0).error == .invalidArgument)
    #expect(pinnedFrames == 0)
  }

  @Test(
    "a pin whose number cannot be returned is undone, and of all failures only this one uses up a number"
  )
  func unansweredPin() throws {
    defer { mock.close() }
    #expect(mock.map(ioas, memory, at: 0x10000) == nil)
    let access = try create(ioas).get()
    #expect(pin(access, 0x10000, readOnly: true).error == .badAddress)
    #expect(pinnedFrames == 0)
    #expect(pin(access, 0x20000).error == .noSuchFileOrDirectory)
    #expect(try pin(access, 0x10000).get() == 1)
  }

  @Test("an unmap removes every pin that reaches into the area")
  func unmapRemovesPins() throws {
    defer { mock.close() }
    #expect(mock.map(ioas, memory, at: 0x10000) == nil)
    #expect(mock.map(ioas, memory, at: 0x14000) == nil)
    let access = try create(ioas).get()
    let over = try pin(access, 0x13000, pages: 2).get()
    let beyond = try pin(access, 0x16000).get()
    #expect(pinnedFrames == 3)
    #expect(try unmap(0x10000, pages: 4).get() == 0x4000)
    // The pin that reached into the other area is removed completely.
    #expect(unpin(access, over) == .noSuchFileOrDirectory)
    #expect(unpin(access, beyond) == nil)
    #expect(pinnedFrames == 0)
  }

  @Test("a move to another IOAS removes the pins")
  func moveRemovesPins() throws {
    defer { mock.close() }
    let second = try mock.file.makeIOAS()
    #expect(mock.map(ioas, memory, at: 0x10000) == nil)
    let access = try create(ioas).get()
    let item = try pin(access, 0x10000).get()
    #expect(move(access, to: ioas) == nil)
    #expect(pinnedFrames == 1)
    #expect(move(access, to: second) == nil)
    #expect(pinnedFrames == 0)
    #expect(unpin(access, item) == .noSuchFileOrDirectory)
    #expect(mock.destroy(ioas) == nil)
  }

  @Test("an access shares the pages of a domain and keeps them when the domain is destroyed")
  func pinsOutliveTheDomain() throws {
    defer { mock.close() }
    let device = try mock.makeDevice(ioas).get()
    #expect(mock.map(ioas, memory, at: 0x100_0000) == nil)
    let access = try create(ioas).get()
    _ = try pin(access, 0x100_1000, expecting: memory.address + 4096).get()
    #expect(pinnedFrames == 4)
    #expect(mock.destroy(device.device) == nil)
    #expect(pinnedFrames == 1)
    closeAccess(access)
    #expect(pinnedFrames == 0)
  }

  // MARK: Copies

  @Test("an access copies to and from the mapped memory", arguments: [0, slow])
  func copies(path: UInt32) throws {
    defer { mock.close() }
    #expect(mock.map(ioas, memory, at: 0x10000) == nil)
    let access = try create(ioas, pinning: false).get()
    for index in 0..<32 { memory.store(UInt8(index), at: 4080 + index) }
    #expect(copy(access, 0x10ff0, 32, path) == nil)
    #expect((0..<32).allSatisfy { scratch.load(UInt8.self, at: $0) == UInt8($0) })
    for index in 0..<32 { scratch.store(UInt8(200), at: index) }
    #expect(copy(access, 0x11ff0, 32, path | write) == nil)
    #expect((0..<32).allSatisfy { memory.load(UInt8.self, at: 8176 + $0) == 200 })
    #expect(memory.load(UInt8.self, at: 8175) == 0)
    #expect(memory.load(UInt8.self, at: 8208) == 0)
    #expect(copy(access, 0x13ff0, 17, path) == .noSuchFileOrDirectory)
    #expect(copy(access, 0x10000, 0, path) == .invalidArgument)
    #expect(pinnedFrames == 0)
  }

  @Test("an IOVA can be an area number and an offset in the area")
  func numberedAreas() throws {
    defer { mock.close() }
    let numbered = UInt32(MOCK_FLAGS_ACCESS_SYZ)
    #expect(mock.map(ioas, memory, at: 0x10000) == nil)
    #expect(mock.map(ioas, memory, at: 0x30000) == nil)
    memory.store(UInt64(7), at: 4096)
    let access = try create(ioas, pinning: false).get()
    #expect(copy(access, 0x1000_0000_0001, 8, numbered) == nil)
    #expect(scratch.load(UInt64.self) == 7)
    #expect(copy(access, 2, 8, numbered) == .noSuchFileOrDirectory)
    var command = iommu_ioas_copy(
      size: 40, flags: 7 | numbered, dst_ioas_id: ioas, src_ioas_id: ioas, length: 4096,
      dst_iova: 0x50000, src_iova: 0x1000_0000_0001)
    #expect(mock.file.call(.ioasCopy, &command) == nil)
    #expect(command.src_iova == 0x31000)
    #expect(command.flags == 7)
    #expect(copy(access, 0x50000, 8, 0) == nil)
  }

  @Test(
    "a copy that reaches inaccessible memory changes nothing by frames, and directly the bytes before that memory"
  )
  func copyIntoNothing() throws {
    defer { mock.close() }
    #expect(mock.map(ioas, memory, at: 0x10000) == nil)
    let access = try create(ioas, pinning: false).get()
    scratch.store(UInt64.max)
    memory.protect(.none, page: 1)
    #expect(copy(access, 0x10ffc, 8, write | slow) == .badAddress)
    #expect(memory.load(UInt32.self, at: 0xffc) == 0)
    #expect(copy(access, 0x10ffc, 8, write) == .badAddress)
    #expect(memory.load(UInt32.self, at: 0xffc) == .max)
    #expect(pinnedFrames == 0)
  }
}

@Suite struct InternalAccessTests {
  private let file: ControlFile
  private let memory = TestMemory(pages: 2)
  private let context: Context

  init() throws {
    file = try ControlFile()
    context = try file.context
  }

  @Test(
    "an area that a hardware queue pins cannot be unmapped, and the areas before it are unmapped")
  func unmapIsBusy() throws {
    let id = try file.makeIOAS()
    defer { file.close() }
    try context.lock.withLock {
      let ioas = try context.ioas(ObjectID(id))
      let table = ioas.pageTable
      for iova: IOVA in [0x10000, 0x20000] {
        _ = try table.map(
          userAddress: memory.address, length: 8192, at: iova, permissions: .read,
          accounting: .user, client: file.client)
      }
      let access = try Access.makeInternal(in: context)
      try access.attach(to: ioas)
      let pin = try access.pin(0x20000, length: 4096, forWriting: false, client: file.client)
      #expect(pin.frames.count == 1)
      #expect(throws: Errno.notPermitted) {
        try access.pin(0x20000, length: 4096, forWriting: true, client: file.client)
      }
      // The areas before it are already unmapped.
      let unmapped = table.unmapAll()
      #expect(unmapped.failure == .resourceBusy)
      #expect(unmapped.bytes == 8192)
      #expect(table.areaCount == 1)
      access.unpin(pin)
      #expect(try table.unmapAll().get() == 8192)
      access.end()
      #expect(ioas.users == 1)
    }
  }

  @Test("an unmap fails when an access does not unpin, and the area cannot be used afterwards")
  func accessThatDoesNotUnpin() throws {
    let id = try file.makeIOAS()
    defer { file.close() }
    try context.lock.withLock {
      let ioas = try context.ioas(ObjectID(id))
      var asked: [ClosedRange<IOVA>] = []
      let access = try Access.make(in: context, needsPins: true) { asked.append($0?.range ?? .all) }
      try access.attach(to: ioas)
      _ = try ioas.pageTable.map(
        userAddress: memory.address, length: 8192, at: 0x10000, permissions: .read,
        accounting: .user, client: file.client)
      let pin = try access.pin(0x11000, length: 4096, forWriting: false, client: file.client)
      #expect(ioas.pageTable.unmap(0x10000, length: 8192).failure == .deadlock)
      #expect(Set(asked) == [0x10000...0x11fff])
      #expect(throws: Errno.invalidArgument) {
        try access.pin(0x10000, length: 4096, forWriting: false, client: file.client)
      }
      access.unpin(pin)
      #expect(ioas.pageTable.unmap(0x10000, length: 8192).bytes == 8192)
      access.end()
    }
    context.release()
  }
}

// SPDX-License-Identifier: Apache-2.0

import CUAPI
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

/// Object IDs as the kernel's xa_alloc() allocates them.
@Suite struct ObjectIDTests {
  @Test("the lowest free object ID from 1 on is allocated")
  func lowestFreeFromOne() throws {
    let file = try ControlFile()
    defer { file.close() }
    #expect(try (1...5).map { _ in try file.makeIOAS() } == [1, 2, 3, 4, 5])
    #expect(file.destroy(2) == nil)
    #expect(file.destroy(4) == nil)
    #expect(try file.makeIOAS() == 2)
    #expect(try file.makeIOAS() == 4)
    #expect(try file.makeIOAS() == 6)
    #expect(file.destroy(1) == nil)
    #expect(try file.makeIOAS() == 1)
  }

  @Test("an ID without an object is ENOENT")
  func absentIDs() throws {
    let file = try ControlFile()
    defer { file.close() }
    _ = try file.makeIOAS()
    for id in [0, 2, 3, 0x7fff_ffff, UInt32.max] {
      #expect(file.destroy(id) == .noSuchFileOrDirectory, "\(id)")
    }
    #expect(file.destroy(1) == nil)
    #expect(file.destroy(1) == .noSuchFileOrDirectory)
  }

  @Test("files do not share object IDs")
  func perFile() throws {
    let (one, other) = (try ControlFile(), try ControlFile())
    defer {
      one.close()
      other.close()
    }
    #expect(try one.makeIOAS() == 1)
    #expect(try other.makeIOAS() == 1)
    #expect(one.destroy(1) == nil)
    #expect(other.destroy(1) == nil)
  }

  @Test("an ID that cannot be written to the client leaves no object")
  func unansweredAllocation() throws {
    let file = try ControlFile()
    defer { file.close() }
    let memory = TestMemory()
    memory.store(iommu_ioas_alloc(size: 12, flags: 0, out_ioas_id: 77))
    memory.protect(.read)
    #expect(file.call(.ioasAlloc, memory.address) == .failure(.badAddress))
    #expect(memory.load(iommu_ioas_alloc.self).out_ioas_id == 77)
    #expect(try file.makeIOAS() == 1)
  }

  @Test("the number of objects is limited")
  func capacity() throws {
    let file = try ControlFile()
    defer { file.close() }
    var command = iommu_ioas_alloc(size: 12, flags: 0, out_ioas_id: 0)
    let memory = TestMemory()
    memory.store(command)
    for _ in 0..<ObjectTable.capacity {
      guard case .success = file.call(.ioasAlloc, memory.address) else {
        Issue.record("below the bound")
        return
      }
    }
    #expect(file.call(.ioasAlloc, &command) == .noMemory)
    #expect(file.destroy(500) == nil)
    #expect(file.call(.ioasAlloc, &command) == nil)
    #expect(command.out_ioas_id == 500)
  }
}

/// The functions of the object table without a client.
@Suite struct ObjectTableTests {
  private final class Leaf: Object, @unchecked Sendable {
    let onDestroy: (ObjectID) -> Void
    let support: Object?

    init(
      id: ObjectID, in context: Context, on support: Object? = nil,
      _ onDestroy: @escaping (ObjectID) -> Void = { _ in }
    ) {
      self.onDestroy = onDestroy
      self.support = support
      super.init(id: id, in: context)
      support?.addUser()
    }

    override func destroy() {
      support?.dropUser()
      onDestroy(id)
    }
  }

  @Test("a reserved ID cannot be looked up until the object is added")
  func reservedIsInvisible() throws {
    let file = try ControlFile()
    defer { file.close() }
    let context = try file.context
    try context.lock.withLock {
      let id = try context.objects.reserve()
      #expect(!context.objects.isEmpty)
      #expect(throws: Errno.noSuchFileOrDirectory) { try context.objects.lookUp(id) }
      #expect(throws: Errno.noSuchFileOrDirectory) { try context.destroy(id) }
      context.objects.abort(id)
      #expect(context.objects.isEmpty)
      #expect(try context.objects.reserve() == id)
      context.objects.abort(id)
    }
  }

  @Test("an object that is used is EBUSY for destruction")
  func busyWhileUsed() throws {
    let file = try ControlFile()
    defer { file.close() }
    let context = try file.context
    try context.lock.withLock {
      let root = Leaf(id: try context.objects.reserve(), in: context)
      context.objects.finalize(root)
      let leaf = Leaf(id: try context.objects.reserve(), in: context, on: root)
      context.objects.finalize(leaf)
      #expect(throws: Errno.resourceBusy) { try context.destroy(root.id) }
      try context.destroy(leaf.id)
      try context.destroy(root.id)
      #expect(context.objects.isEmpty)
    }
  }

  @Test("a tombstone is ENOENT for every command, is not allocated again and counts as an object")
  func tombstone() throws {
    let file = try ControlFile()
    defer { file.close() }
    let context = try file.context
    try context.lock.withLock {
      let object = Leaf(id: try context.objects.reserve(), in: context)
      context.objects.finalize(object)
      _ = try context.objects.remove(object.id, leavingTombstone: true)
      #expect(throws: Errno.noSuchFileOrDirectory) { try context.objects.lookUp(object.id) }
      #expect(throws: Errno.noSuchFileOrDirectory) { try context.destroy(object.id) }
      #expect(!context.objects.isEmpty)
      let next = try context.objects.reserve()
      #expect(next == ObjectID(2))
      context.objects.abort(next)
    }
  }

  @Test("close destroys the objects without dependants in rounds, whatever their IDs")
  func closeDestroysLeavesFirst() throws {
    let file = try ControlFile()
    let context = try file.context
    nonisolated(unsafe) var order: [UInt32] = []
    try context.lock.withLock {
      let ids = try (1...4).map { _ in try context.objects.reserve() }
      // 2 depends on 4, and 1 on 2. 3 depends on no object.
      let four = Leaf(id: ids[3], in: context) { order.append($0.rawValue) }
      let two = Leaf(id: ids[1], in: context, on: four) { order.append($0.rawValue) }
      let one = Leaf(id: ids[0], in: context, on: two) { order.append($0.rawValue) }
      let three = Leaf(id: ids[2], in: context) { order.append($0.rawValue) }
      for object in [four, two, one, three] { context.objects.finalize(object) }
    }
    file.close()
    #expect(order == [1, 3, 2, 4])
  }
}

extension ControlFile {
  func makeIOAS() throws -> UInt32 {
    var command = iommu_ioas_alloc(size: 12, flags: 0, out_ioas_id: 0)
    if let error = call(.ioasAlloc, &command) { throw error }
    return command.out_ioas_id
  }

  func destroy(_ id: UInt32) -> Errno? {
    var command = iommu_destroy(size: 8, id: id)
    return call(.destroy, &command)
  }
}

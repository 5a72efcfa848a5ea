// SPDX-License-Identifier: Apache-2.0

// The IDs of one open /dev/iommu and their objects (iommufd_ctx.objects).
//
// The life of an object has four steps. `reserve` takes the lowest free ID; look-ups do not find
// it. The caller then makes the object, which can fail. `finalize` publishes the object and cannot
// fail; `abort` frees the ID instead. `destroy` (Context) undoes `finalize`. So a client never
// finds an object that is half made, and a command that fails leaves the table as it was.
//
// A tombstone is the ID of an object that was removed although a client has it (a vDEVICE whose
// device is unbound). The ID is not used again until the file is closed.
//
// The owner is the context, whose lock guards the table.

internal import HeapModule
internal import SystemPackage
internal import UAPI

struct ObjectTable {
  /// The number of IDs that one context can use at a time. The kernel has no such limit: the memory
  /// cgroup of the client limits it (ENOMEM).
  static let capacity = 65536

  private enum Slot {
    case free
    case reserved
    case tombstone
    case object(Object)
  }

  /// Indexed by ID. Slot 0 is never used.
  private var slots: [Slot] = [.reserved]
  /// Every free ID below `slots.count`. xa_alloc() takes the lowest first.
  private var freeIDs = Heap<UInt32>()

  /// The number of IDs in use, including tombstones.
  private(set) var count = 0
  /// xa_empty()
  var isEmpty: Bool { count == 0 }

  // MARK: Life of an object

  /// iommufd: _iommufd_object_alloc()
  /// - Throws: `.noMemory` when all IDs are in use.
  mutating func reserve() throws(Errno) -> ObjectID {
    try FaultInjection.step()
    guard count < Self.capacity else { throw .noMemory }
    count += 1
    if let id = freeIDs.popMin() {
      slots[Int(id)] = .reserved
      return ObjectID(id)
    }
    slots.append(.reserved)
    return ObjectID(UInt32(slots.count - 1))
  }

  /// Publishes `object` under its reserved ID. iommufd: iommufd_object_finalize()
  mutating func finalize(_ object: Object) {
    guard case .reserved = slots[Int(object.id.rawValue)] else {
      preconditionFailure("only a reserved ID can be finalized")
    }
    slots[Int(object.id.rawValue)] = .object(object)
  }

  /// Frees a reserved ID. iommufd: iommufd_object_abort()
  mutating func abort(_ id: ObjectID) {
    guard case .reserved = slots[Int(id.rawValue)] else {
      preconditionFailure("only a reserved ID can be aborted")
    }
    free(id)
  }

  /// Removes an object; the caller destroys it. iommufd: iommufd_object_remove()
  /// - Throws: `.noSuchFileOrDirectory` without such an object, `.resourceBusy` when it is in use.
  mutating func remove(_ id: ObjectID, leavingTombstone: Bool = false) throws(Errno) -> Object {
    let object = try published(id)
    guard !object.isInUse else { throw .resourceBusy }
    if leavingTombstone {
      slots[Int(id.rawValue)] = .tombstone
    } else {
      free(id)
    }
    return object
  }

  private mutating func free(_ id: ObjectID) {
    slots[Int(id.rawValue)] = .free
    freeIDs.insert(id.rawValue)
    count -= 1
  }

  // MARK: Look-up

  /// iommufd: iommufd_get_object()
  /// - Throws: `.noSuchFileOrDirectory`, also for reserved IDs and tombstones.
  func lookUp(_ id: ObjectID) throws(Errno) -> Object {
    try FaultInjection.step(.noSuchFileOrDirectory)
    return try published(id)
  }

  private func published(_ id: ObjectID) throws(Errno) -> Object {
    guard id.rawValue < slots.count, case .object(let object) = slots[Int(id.rawValue)] else {
      throw .noSuchFileOrDirectory
    }
    return object
  }

  /// - Throws: `.noSuchFileOrDirectory`, also for an object of another type.
  func lookUp<T: Object>(_ id: ObjectID, as type: T.Type) throws(Errno) -> T {
    guard let object = try lookUp(id) as? T else { throw .noSuchFileOrDirectory }
    return object
  }

  /// Returns every object of one type, in the order of IDs.
  func all<T: Object>(_ type: T.Type) -> [T] {
    slots.compactMap { slot in
      if case .object(let object) = slot { object as? T } else { nil }
    }
  }

  /// Removes all objects that nothing depends on and returns them in the order of IDs.
  mutating func removeLeaves() -> [Object] {
    var leaves: [Object] = []
    for index in slots.indices {
      if case .object(let object) = slots[index], object.users == 1 {
        leaves.append(object)
        free(object.id)
      }
    }
    return leaves
  }
}

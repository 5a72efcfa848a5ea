// The ids of one open /dev/iommu and what they mean.
//
// An object's life has four verbs. `reserve` takes the lowest free id, which nobody can find yet;
// then the object is made, and everything that can fail happens; `finalize` publishes it and cannot
// fail, or `abort` gives the id back. `destroy` undoes finalize. So no half-made object is ever
// visible, and a failed command leaves no trace but the order of later ids (which it does not change
// either: the id is free again).
//
// A tombstone is an id that was taken from its user by force: it stays dead until the file is closed.
//
// All of it is guarded by the context's control lock.

internal import HeapModule
internal import SystemPackage
internal import UAPI

struct ObjectTable {
  /// What a client can make one file hold. The kernel leaves this to the memory cgroup (ENOMEM).
  static let capacity = 65536

  private enum Slot {
    case free
    case reserved
    case tombstone
    case object(Object)
  }

  /// Indexed by id; slot 0 is never used.
  private var slots: [Slot] = [.reserved]
  /// Every free id below `slots.count`: the lowest is taken first (xa_alloc()).
  private var freeIDs = Heap<UInt32>()

  /// Ids that are taken, tombstones included (!xa_empty()).
  private(set) var count = 0
  var isEmpty: Bool { count == 0 }

  // MARK: Life

  /// iommufd: _iommufd_object_alloc()
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

  /// iommufd: iommufd_object_finalize()
  mutating func finalize(_ object: Object) {
    guard case .reserved = slots[Int(object.id.rawValue)] else {
      preconditionFailure("only a reserved id can be finalized")
    }
    slots[Int(object.id.rawValue)] = .object(object)
  }

  /// iommufd: iommufd_object_abort()
  mutating func abort(_ id: ObjectID) {
    guard case .reserved = slots[Int(id.rawValue)] else {
      preconditionFailure("only a reserved id can be aborted")
    }
    release(id)
  }

  /// Takes an object out of the table; the caller destroys it. iommufd: iommufd_object_remove()
  /// - Throws: `.noSuchFileOrDirectory`; `.resourceBusy` when somebody depends on it.
  mutating func remove(_ id: ObjectID, leavingTombstone: Bool = false) throws(Errno) -> Object {
    let object = try published(id)
    guard !object.isInUse else { throw .resourceBusy }
    if leavingTombstone {
      slots[Int(id.rawValue)] = .tombstone
    } else {
      release(id)
    }
    return object
  }

  private mutating func release(_ id: ObjectID) {
    slots[Int(id.rawValue)] = .free
    freeIDs.insert(id.rawValue)
    count -= 1
  }

  // MARK: Look-up

  /// - Throws: `.noSuchFileOrDirectory` also for ids that are reserved or dead.
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

  /// - Throws: `.noSuchFileOrDirectory` also for an object of another kind.
  func lookUp<T: Object>(_ id: ObjectID, as type: T.Type) throws(Errno) -> T {
    guard let object = try lookUp(id) as? T else { throw .noSuchFileOrDirectory }
    return object
  }

  /// Every object of one kind, in the order of ids.
  func all<T: Object>(_ type: T.Type) -> [T] {
    slots.compactMap { slot in
      if case .object(let object) = slot { object as? T } else { nil }
    }
  }

  /// The objects nobody depends on, in the order of ids, taken out of the table.
  mutating func removeLeaves() -> [Object] {
    var leaves: [Object] = []
    for index in slots.indices {
      if case .object(let object) = slots[index], object.users == 1 {
        leaves.append(object)
        release(object.id)
      }
    }
    return leaves
  }
}

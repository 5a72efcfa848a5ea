// One open /dev/iommu (iommufd: struct iommufd_ctx): a table of objects and the lock that guards it.
//
// The context lives as long as somebody needs it: the open file, and every device that is bound to it,
// as in the kernel, where a bound device holds the file. When the last reference goes, every object
// goes, leaves first.

package import IOMMU
internal import Synchronization
package import SystemPackage
package import UAPI

package final class Context: @unchecked Sendable {
  package let lock = ControlLock()
  /// Where pinned pages become frames; shared by all contexts of the machine.
  package let memory: PhysicalMemory

  /// Where test operations are allowed.
  let selftest: Selftest?
  /// The extensions' parts of this context; empty without extensions.
  let hooks: [any ExtensionHooks]

  let faultLogs = FaultLogFiles()
  let mappableRegions = MappableRegions()

  /// The file, and the devices bound to it.
  private let references = Mutex(1)

  // MARK: Guarded by `lock`

  var objects = ObjectTable()
  /// Who is charged for pinned pages of mappings made from now on.
  var accountMode = PinAccounting.Mode.user
  /// The IOAS that the VFIO container commands work on; none when it has been destroyed.
  var containerIOAS: IOAS?
  /// What this context knows of the IOMMU groups its devices are in.
  var groups: [ObjectIdentifier: DeviceGroup] = [:]

  package init(
    memory: PhysicalMemory, selftest: Selftest? = nil, extensions: ExtensionSet = .none
  ) {
    self.memory = memory
    self.selftest = selftest
    hooks = extensions.hooks.map { $0() }
  }

  // MARK: References

  /// iommufd: iommufd_ctx_from_fd(). The caller gives the reference back with ``release()``.
  /// - Throws: `.badFileDescriptor`; EBADFD when the descriptor is no /dev/iommu of ours.
  package static func of(
    descriptor: Int32, client: any Client
  ) throws(Errno) -> Context {
    guard let file = try client.openFile(descriptor) as? IOMMUFDFile else {
      throw .badFileDescriptorState
    }
    try file.context.retain()
    return file.context
  }

  /// - Throws: `.badFileDescriptor` when the last reference has gone, that is the file is being closed.
  package func retain() throws(Errno) {
    let isAlive = references.withLock { count in
      guard count > 0 else { return false }
      count += 1
      return true
    }
    guard isAlive else { throw .badFileDescriptor }
  }

  package func release() {
    let isLast = references.withLock { count in
      count -= 1
      return count == 0
    }
    guard isLast else { return }
    lock.withLock { destroyEverything() }
    for hooks in hooks { hooks.contextIsReleased(self) }
  }

  /// iommufd: iommufd_fops_release(). Each round takes what nobody depends on any more.
  private func destroyEverything() {
    containerIOAS = nil
    while true {
      let leaves = objects.removeLeaves()
      if leaves.isEmpty { break }
      for object in leaves { object.destroy() }
    }
    assert(groups.isEmpty, "a group lives by its bound devices")
  }

  // MARK: Objects, with the lock held

  func ioas(_ id: ObjectID) throws(Errno) -> IOAS {
    lock.assertHeld()
    return try objects.lookUp(id, as: IOAS.self)
  }

  /// iommufd: iommufd_destroy(), iommufd_object_put_and_try_destroy()
  func destroy(_ id: ObjectID) throws(Errno) {
    lock.assertHeld()
    let object = try objects.remove(id)
    if object === containerIOAS { containerIOAS = nil }
    object.destroy()
  }
}

extension Context: DMABufferImporter {
  func invalidate(_ pages: IOPTPages) {
    lock.withLock {
      if pages.isRevoked { return }
      for ioas in objects.all(IOAS.self) { ioas.pageTable.empty(of: pages) }
      pages.revoke()
    }
  }
}

extension Errno {
  /// EBADFD: an open descriptor, but not of the kind that is needed.
  package static let badFileDescriptorState = Errno(rawValue: 77)
}

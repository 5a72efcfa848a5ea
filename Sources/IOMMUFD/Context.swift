// SPDX-License-Identifier: Apache-2.0

// One open /dev/iommu (iommufd: struct iommufd_ctx): a table of objects and the lock that guards
// them.
//
// `lock` guards the object table, every object in it and what an object owns: the IOPageTable of an
// IOAS, the IOPTPages of an area, the DeviceGroup of a bound device. The classes are therefore
// `@unchecked Sendable`, and their functions call `lock.assertHeld()`. A command holds the lock
// while it works on objects. It copies to and from the client's memory without the lock, except
// where the kernel's order of effects requires it. Order of locks: the lock of a VFIO device set,
// `lock`, then the leaf locks of what contexts share (IOMMU groups, drivers, units, physical
// memory, pin counters).
//
// Threads that do DMA never take `lock`. What they need of a context has a leaf lock of its own:
// fault logs (`FaultLogFiles`), attachments that handle page requests (`AttachmentHandle`), the
// host side of a vIOMMU (`VIOMMUHost`).
//
// A context is reference-counted. The open file has one reference; a bound device, an object with a
// descriptor of its own and an access have one each, like a kernel object that holds the file. The
// release of the last reference destroys all objects, those first that no other object depends on.

package import IOMMU
internal import Synchronization
package import SystemPackage
package import UAPI

package final class Context: @unchecked Sendable {
  package let lock = AssertableLock()
  /// The physical memory that pinned pages are frames of; all contexts of a machine share it.
  package let memory: PhysicalMemory

  /// The selftest interface. `nil` when IOMMU_TEST_CMD is not a command of this machine.
  let selftest: Selftest?
  /// The extensions' parts of this context; empty without extensions.
  let hooks: [any ExtensionHooks]

  let faultLogs = FaultLogFiles()
  let mappableRegions = MappableRegions()

  private let references = Mutex(1)

  // MARK: Guarded by `lock`

  var objects = ObjectTable()
  /// Which counter the pages of later mappings are charged to (iommufd_ctx.account_mode).
  var accountingMode = PinAccountingMode.user
  /// The IOAS of the VFIO container commands (iommufd_ctx.vfio_ioas).
  var containerIOAS: IOAS?
  /// The groups of the bound devices (iommufd_ctx.groups).
  private(set) var groups: [ObjectIdentifier: DeviceGroup] = [:]

  package init(
    memory: PhysicalMemory, selftest: Selftest? = nil, extensions: ExtensionSet = .none
  ) {
    self.memory = memory
    self.selftest = selftest
    hooks = extensions.hooks.map { $0.make() }
  }

  // MARK: References

  /// Returns the context of a client's descriptor with a new reference, which the caller drops with
  /// ``release()``. iommufd: iommufd_ctx_from_fd()
  /// - Throws: `.badFileDescriptor` when the descriptor is closed; EBADFD when it is not an open
  ///   /dev/iommu of this server.
  package static func of(
    descriptor: Int32, client: any Client
  ) throws(Errno) -> Context {
    guard let file = try client.openFile(descriptor) as? IOMMUFDFile else {
      throw .badFileDescriptorState
    }
    try file.context.retain()
    return file.context
  }

  /// Adds a reference.
  /// - Throws: `.badFileDescriptor` when the last reference is gone, because the file is being
  ///   closed.
  package func retain() throws(Errno) {
    let isAlive = references.withLock { count in
      guard count > 0 else { return false }
      count += 1
      return true
    }
    guard isAlive else { throw .badFileDescriptor }
  }

  /// Drops a reference. The caller must not hold the lock.
  package func release() {
    let isLast = references.withLock { count in
      count -= 1
      return count == 0
    }
    guard isLast else { return }
    lock.withLock { destroyAll() }
    for hooks in hooks { hooks.contextIsReleased(self) }
  }

  /// Each round destroys the objects without users, until none is left.
  /// iommufd: iommufd_fops_release()
  private func destroyAll() {
    containerIOAS = nil
    while true {
      let leaves = objects.removeLeaves()
      if leaves.isEmpty { break }
      for object in leaves { object.destroy() }
    }
    assert(groups.isEmpty, "a group exists while it has bound devices")
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

  // MARK: Groups, with the lock held

  /// Returns the context's view of `group`, which has one bound device more.
  /// iommufd: iommufd_get_group()
  func addBoundDevice(to group: IOMMUGroup) -> DeviceGroup {
    lock.assertHeld()
    let key = ObjectIdentifier(group)
    let deviceGroup = groups[key] ?? DeviceGroup(group)
    groups[key] = deviceGroup
    deviceGroup.boundDevices += 1
    return deviceGroup
  }

  /// iommufd: iommufd_group_release()
  func removeBoundDevice(from deviceGroup: DeviceGroup) {
    lock.assertHeld()
    deviceGroup.boundDevices -= 1
    if deviceGroup.boundDevices == 0 { groups[ObjectIdentifier(deviceGroup.group)] = nil }
  }
}

extension Context: DMABufferImporter {
  func invalidate(_ pages: IOPTPages) {
    lock.withLock {
      if pages.isRevoked { return }
      for ioas in objects.all(IOAS.self) { ioas.pageTable.unfillAreas(of: pages) }
      pages.revoke()
    }
  }
}

extension Errno {
  /// EBADFD: an open descriptor of another kind than is needed.
  package static let badFileDescriptorState = Errno(rawValue: 77)
}

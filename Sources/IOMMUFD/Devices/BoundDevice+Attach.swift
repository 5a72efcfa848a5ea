// SPDX-License-Identifier: Apache-2.0

// Attach, replace and detach of a bound device.
//
// The target is a HWPT or an IOAS. For an IOAS the device is attached to an automatic HWPT: the
// first one of the IOAS that it is compatible with, or a new one. The checks are the kernel's, in
// its order:
//   - a device has at most one attachment per PASID (EBUSY), and its group must be attached to the
//     same HWPT (EINVAL);
//   - without PASID, the reserved regions of the device must not overlap mappings or allowed ranges
//     (EADDRINUSE);
//   - the driver must accept the domain (EINVAL when it is incompatible).
// A call that fails changes nothing.

package import IOMMU
package import SystemPackage
package import UAPI

extension BoundDevice {
  // MARK: Calls of the owner

  /// iommufd: iommufd_device_attach()
  /// - Parameters:
  ///   - target: an IOAS or a HWPT; on return the ID of the HWPT.
  ///   - client: the client that makes the call, for pages that have to be pinned.
  package func attach(
    to target: inout ObjectID, pasid: PASID? = nil, client: (any Client)? = nil
  ) throws(Errno) {
    target = try context.lock.withLock { [target] () throws(Errno) in
      let hwpt = try change(to: target, pasid: pasid, by: .attach, client: client)
      addUser()
      return hwpt
    }
  }

  /// iommufd: iommufd_device_replace()
  package func replace(
    with target: inout ObjectID, pasid: PASID? = nil, client: (any Client)? = nil
  ) throws(Errno) {
    target = try context.lock.withLock { [target] () throws(Errno) in
      try change(to: target, pasid: pasid, by: .replace, client: client)
    }
  }

  /// iommufd: iommufd_device_detach()
  package func detach(pasid: PASID? = nil) {
    context.lock.withLock {
      if pasid == nil { leaveIOAS() }
      detachAndPut(pasid: pasid)
    }
  }

  /// Detaches every PASID, then the device without PASID. The lock is held.
  func detachAll() {
    leaveIOAS()
    let pasids = group.attachments.compactMap { $0.value.devices[id] == nil ? nil : $0.key }
    for case let pasid? in pasids { detachAndPut(pasid: pasid) }
    detachAndPut(pasid: nil)
  }

  private func leaveIOAS() {
    for hooks in context.hooks { hooks.deviceLeavesIOAS(self) }
  }

  func detachAndPut(pasid: PASID?) {
    guard let hwpt = detachDirectly(pasid: pasid) else { return }
    hwpt.put()
    dropUser()
  }

  // MARK: Choosing the HWPT

  private enum Change { case attach, replace }

  /// Releases the lock while the pages of a new automatic HWPT are faulted in. The owner of the
  /// device keeps it bound meanwhile. iommufd: iommufd_device_change_pt()
  private func change(
    to target: ObjectID, pasid: PASID?, by change: Change, client: (any Client)?
  ) throws(Errno) -> ObjectID {
    switch try context.objects.lookUp(target) {
    case let hwpt as HWPT:
      try self.change(to: hwpt, pasid: pasid, by: change)?.put()
      return target
    case let ioas as IOAS:
      let (hwpt, old) = try ioas.withUser { () throws(Errno) in
        try ioas.withAutomaticHWPTs { () throws(Errno) in
          try changeToAutomatic(on: ioas, pasid: pasid, by: change, client: client)
        }
      }
      old?.put()
      return hwpt.id
    default:
      throw .invalidArgument
    }
  }

  /// - Returns: the HWPT that was replaced, which the caller puts.
  private func change(
    to hwpt: HWPT, pasid: PASID?, by change: Change
  ) throws(Errno) -> HWPT? {
    switch change {
    case .attach:
      try attachDirectly(to: hwpt, pasid: pasid)
      return nil
    case .replace:
      return try replaceDirectly(with: hwpt, pasid: pasid)
    }
  }

  /// iommufd: iommufd_device_auto_get_domain()
  private func changeToAutomatic(
    on ioas: IOAS, pasid: PASID?, by change: Change, client: (any Client)?
  ) throws(Errno) -> (hwpt: PagingHWPT, old: HWPT?) {
    for hwpt in ioas.hwpts where hwpt.isAutomatic {
      do throws(Errno) {
        return (hwpt, try self.change(to: hwpt, pasid: pasid, by: change))
      } catch {
        // EINVAL: the domain is incompatible with the device, but the next one may be compatible.
        guard error == .invalidArgument else { throw error }
      }
    }
    let hwpt = try PagingHWPT.make(
      for: self, on: ioas, flags: ioas.automaticFlags, attaching: change == .attach, pasid: pasid,
      client: client)
    var old: HWPT?
    if change == .replace {
      do throws(Errno) {
        old = try replaceDirectly(with: hwpt, pasid: pasid)
      } catch {
        hwpt.abort()
        throw error
      }
    }
    hwpt.finalize(asAutomatic: true)
    return (hwpt, old)
  }

  // MARK: One HWPT

  /// Attaches the device to `hwpt` and makes it a user of `hwpt`.
  /// iommufd: iommufd_hw_pagetable_attach()
  func attachDirectly(to hwpt: HWPT, pasid: PASID?) throws(Errno) {
    context.lock.assertHeld()
    var attachment =
      group.attachments[pasid]
      ?? .init(hwpt: hwpt, handle: AttachmentHandle(to: hwpt, by: id), devices: [:])
    guard attachment.devices[id] == nil else { throw .resourceBusy }
    guard attachment.hwpt === hwpt else { throw .invalidArgument }
    try FaultInjection.step()
    if pasid == nil { try hwpt.ioas.pageTable.enforceReservedRegions(of: device) }
    if attachment.devices.isEmpty {
      do throws(Errno) {
        try group.requireCompatibility(of: hwpt, pasid: pasid)
        try device.group.attach(hwpt.attachment, pasid: pasid, previous: nil)
      } catch {
        if pasid == nil { hwpt.ioas.pageTable.removeReservedRegions(of: device) }
        throw error
      }
      device.group.setHandle(attachment.handle, pasid: pasid)
    }
    attachment.devices[id] = self
    group.attachments[pasid] = attachment
    hwpt.addUser()
  }

  /// iommufd: iommufd_hw_pagetable_detach()
  /// - Returns: the HWPT, which the caller puts; `nil` when the device was not attached.
  func detachDirectly(pasid: PASID?) -> HWPT? {
    context.lock.assertHeld()
    guard var attachment = group.attachments[pasid],
      attachment.devices.removeValue(forKey: id) != nil
    else { return nil }
    if attachment.devices.isEmpty {
      device.group.block(pasid: pasid)
      device.group.setHandle(nil, pasid: pasid)
      attachment.handle.end()
      group.attachments[pasid] = nil
    } else {
      group.attachments[pasid] = attachment
    }
    if pasid == nil { attachment.hwpt.ioas.pageTable.removeReservedRegions(of: device) }
    return attachment.hwpt
  }

  /// Moves the whole group to `hwpt`. When the driver refuses and the IOAS stays the same, the
  /// kernel removes the reserved regions of the group; here they stay, as the kernel's
  /// documentation promises. iommufd: iommufd_device_do_replace()
  /// - Returns: the old HWPT, with one user for the caller to put; `nil` when it is the same.
  private func replaceDirectly(
    with hwpt: HWPT, pasid: PASID?
  ) throws(Errno) -> HWPT? {
    guard var attachment = group.attachments[pasid], attachment.devices[id] != nil else {
      throw .invalidArgument
    }
    let old = attachment.hwpt
    if hwpt === old { return nil }
    try FaultInjection.step()
    let members = attachment.devices.values.sorted { $0.id < $1.id }
    let changesIOAS = pasid == nil && hwpt.ioas !== old.ioas
    if changesIOAS { try hwpt.ioas.enforceReservedRegions(of: members) }
    do throws(Errno) {
      try group.requireCompatibility(of: hwpt, pasid: pasid)
      try device.group.attach(hwpt.attachment, pasid: pasid, previous: old.attachment)
    } catch {
      if changesIOAS { hwpt.ioas.removeReservedRegions(of: members) }
      throw error
    }
    if changesIOAS {
      old.ioas.removeReservedRegions(of: members)
      for member in members { member.leaveIOAS() }
    }
    let handle = AttachmentHandle(to: hwpt, by: id)
    device.group.setHandle(handle, pasid: pasid)
    attachment.handle.end()
    attachment.hwpt = hwpt
    attachment.handle = handle
    group.attachments[pasid] = attachment
    for _ in members { hwpt.addUser() }
    for _ in members.dropFirst() { old.dropUser() }
    return old
  }
}

extension IOAS {
  /// Reserves the regions of all devices, or of none.
  /// iommufd: iommufd_group_do_replace_reserved_iova()
  fileprivate func enforceReservedRegions(of devices: [BoundDevice]) throws(Errno) {
    for device in devices {
      do throws(Errno) {
        try pageTable.enforceReservedRegions(of: device.device)
      } catch {
        removeReservedRegions(of: devices)
        throw error
      }
    }
  }

  fileprivate func removeReservedRegions(of devices: [BoundDevice]) {
    for device in devices { pageTable.removeReservedRegions(of: device.device) }
  }
}

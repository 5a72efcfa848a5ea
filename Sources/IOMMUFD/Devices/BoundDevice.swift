// SPDX-License-Identifier: Apache-2.0

// A device that is bound to a context (iommufd: struct iommufd_device).
//
// VFIO, or the selftest's mock device, owns the object and is a user of it until `unbind()`; so
// IOMMU_DESTROY of its ID fails with EBUSY. Every attachment is a user too. A device bound by VFIO
// has a reference to its context. Guarded by the context's lock.

internal import IOMMU
package import SystemPackage
internal import UAPI

package final class BoundDevice: Object, @unchecked Sendable {
  package let device: PhysicalDevice
  let group: DeviceGroup
  /// Whether the domains of the device must force no-snoop accesses coherent.
  let enforcesCacheCoherency: Bool
  /// The device's vDEVICE.
  weak var virtualDevice: VDevice?
  /// Whether the device has a reference to the context.
  private let holdsContext: Bool

  private init(
    id: ObjectID, device: PhysicalDevice, group: DeviceGroup, in context: Context,
    holdsContext: Bool
  ) {
    self.device = device
    self.group = group
    self.holdsContext = holdsContext
    enforcesCacheCoherency = device.driver.enforcesCacheCoherency(for: device.requesterID)
    super.init(id: id, in: context)
  }

  /// iommufd: iommufd_device_bind()
  fileprivate static func bind(
    _ device: PhysicalDevice, to context: Context, holdsContext: Bool
  ) throws(Errno) -> BoundDevice {
    let id = try context.objects.reserve()
    do throws(Errno) {
      try FaultInjection.step()
      try device.group.claim(for: context)
    } catch {
      context.objects.abort(id)
      throw error
    }
    do throws(Errno) {
      if holdsContext { try context.retain() }
    } catch {
      device.group.releaseClaim()
      context.objects.abort(id)
      throw error
    }
    let group = context.addBoundDevice(to: device.group)
    if group.attachments.isEmpty { device.group.block(pasid: nil) }
    let bound = BoundDevice(
      id: id, device: device, group: group, in: context, holdsContext: holdsContext)
    bound.addUser()  // the owner, until unbind()
    context.objects.finalize(bound)
    device.setFaultLog(DeviceFaultLog(logs: context.faultLogs, id: id))
    return bound
  }

  /// Unbinds the device, which must be detached. iommufd: iommufd_device_unbind()
  package func unbind() {
    let context = context
    context.lock.withLock { endBinding() }
    if holdsContext { context.release() }
  }

  /// Does what ``unbind()`` does for a device without reference to the context. The lock is held.
  func endBinding() {
    virtualDevice?.destroyLeavingTombstone()
    dropUser()
    do throws(Errno) {
      try context.destroy(id)
    } catch {
      assertionFailure("unbound with an attachment: \(error)")
    }
  }

  /// The capabilities that the unit has for this device.
  var capabilities: DeviceCapabilities { device.driver.capabilities(of: device.requesterID) }

  /// iommufd: iommufd_device_destroy()
  override func destroy() {
    context.lock.assertHeld()
    device.setFaultLog(nil)
    for hooks in context.hooks { hooks.deviceIsUnbound(self) }
    device.group.releaseClaim()
    context.removeBoundDevice(from: group)
  }
}

extension Context {
  /// Binds `device` to this context. The owner of the result calls ``BoundDevice/unbind()``.
  /// - Parameter holdsContext: the context lives until then, even when its file is closed.
  /// - Throws: `.notPermitted` when another context owns the device's group, `.invalidArgument`
  ///   when a member of the group cannot be blocked, `.noMemory`.
  package func bind(
    _ device: PhysicalDevice, holdsContext: Bool = true
  ) throws(Errno) -> BoundDevice {
    try lock.withLock { () throws(Errno) in
      try BoundDevice.bind(device, to: self, holdsContext: holdsContext)
    }
  }

  /// Whether a device of `group` is bound to this context. iommufd: iommufd_ctx_has_group()
  package func hasGroup(_ group: IOMMUGroup) -> Bool {
    lock.withLock { groups[ObjectIdentifier(group)] != nil }
  }
}

// A device that a driver, here VFIO, has put under an iommufd (iommufd: struct iommufd_device).
//
// The object belongs to VFIO: it is one of its users until `unbind()`, so DESTROY of its id is EBUSY.
// Every attachment is one more. A bound device holds its context.

internal import IOMMU
package import SystemPackage
internal import UAPI

package final class BoundDevice: Object, @unchecked Sendable {
  package let device: PhysicalDevice
  let group: DeviceGroup
  /// Tables of the device must force no-snoop accesses coherent.
  let enforcesCacheCoherency: Bool
  /// What a guest knows it as, if one does.
  weak var virtualDevice: VDevice?
  /// The context lives at least as long as the binding.
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

  /// iommufd: iommufd_device_bind(). The caller holds a reference to `context`.
  /// - Throws: `.notPermitted` when another context owns the device's group, `.noMemory`.
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
    let key = ObjectIdentifier(device.group)
    let group = context.groups[key] ?? DeviceGroup(device.group)
    context.groups[key] = group
    group.boundDevices += 1
    if group.attachments.isEmpty { device.group.block(pasid: nil) }
    let bound = BoundDevice(
      id: id, device: device, group: group, in: context, holdsContext: holdsContext)
    bound.addUser()  // VFIO, until unbind()
    context.objects.finalize(bound)
    device.setListener(FaultListener(logs: context.faultLogs, id: id))
    return bound
  }

  /// Ends the binding; the device must have no attachment. iommufd: iommufd_device_unbind()
  package func unbind() {
    let context = context
    context.lock.withLock { endBinding() }
    if holdsContext { context.release() }
  }

  /// As ``unbind()``, for a device that does not hold the context, with the lock held.
  func endBinding() {
    virtualDevice?.destroyForGood()
    dropUser()
    do throws(Errno) {
      try context.destroy(id)
    } catch {
      assertionFailure("unbound with an attachment: \(error)")
    }
  }

  /// Of the unit, for this device.
  var capabilities: DeviceCapabilities { device.driver.capabilities(of: device.requesterID) }

  /// iommufd: iommufd_device_destroy()
  override func destroy() {
    context.lock.assertHeld()
    device.setListener(nil)
    for hooks in context.hooks { hooks.deviceIsUnbound(self) }
    device.group.releaseClaim()
    group.boundDevices -= 1
    if group.boundDevices == 0 { context.groups[ObjectIdentifier(device.group)] = nil }
  }
}

extension Context {
  /// Puts `device` under this context. What the caller gets must be unbound before it is forgotten.
  /// - Parameter holdsContext: the context outlives its file until then.
  package func bind(
    _ device: PhysicalDevice, holdsContext: Bool = true
  ) throws(Errno) -> BoundDevice {
    try lock.withLock { () throws(Errno) in
      try BoundDevice.bind(device, to: self, holdsContext: holdsContext)
    }
  }

  /// Whether any device of `group` is bound to this context. iommufd: iommufd_ctx_has_group()
  package func hasGroup(_ group: IOMMUGroup) -> Bool {
    lock.withLock { groups[ObjectIdentifier(group)] != nil }
  }
}

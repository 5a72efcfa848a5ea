// A device as a guest's unit knows it (iommufd: struct iommufd_vdevice). It goes by DESTROY, or by
// force when its device does: then its id stays dead.

internal import IOMMU
internal import SystemPackage
internal import UAPI

final class VDevice: Object, @unchecked Sendable {
  private let viommu: VIOMMU
  private let device: BoundDevice
  let virtualID: UInt64

  private init(id: ObjectID, viommu: VIOMMU, device: BoundDevice, virtualID: UInt64) {
    self.viommu = viommu
    self.device = device
    self.virtualID = virtualID
    super.init(id: id, in: viommu.context)
    viommu.addUser()
    device.virtualDevice = self
  }

  /// Reserved, not visible. iommufd: iommufd_vdevice_alloc_ioctl()
  static func make(
    of device: BoundDevice, virtualID: UInt64, on viommu: VIOMMU
  ) throws(Errno) -> VDevice {
    let context = viommu.context
    context.lock.assertHeld()
    guard viommu.driver === device.device.driver else { throw .invalidArgument }
    guard device.virtualDevice == nil else { throw .fileExists }
    let id = try context.objects.reserve()
    let requester = device.device.requesterID
    do throws(Errno) {
      guard viommu.host.device(virtualID: virtualID) == nil else { throw .fileExists }
      try viommu.unit.addDevice(requester, virtualID: virtualID)
    } catch {
      context.objects.abort(id)
      throw error
    }
    viommu.host.setDevice(requester, virtualID: virtualID)
    return VDevice(id: id, viommu: viommu, device: device, virtualID: virtualID)
  }

  /// Its device goes. iommufd: iommufd_device_remove_vdev()
  func destroyForGood() {
    do throws(Errno) {
      _ = try context.objects.remove(id, leavingTombstone: true)
    } catch {
      // The context is being closed and has it in hand already.
      return
    }
    destroy()
  }

  /// iommufd: iommufd_vdevice_destroy()
  override func destroy() {
    context.lock.assertHeld()
    viommu.unit.removeDevice(device.device.requesterID, virtualID: virtualID)
    viommu.host.setDevice(nil, virtualID: virtualID)
    device.virtualDevice = nil
    viommu.dropUser()
  }
}

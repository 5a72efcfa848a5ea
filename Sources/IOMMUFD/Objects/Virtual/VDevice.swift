// SPDX-License-Identifier: Apache-2.0

internal import IOMMU
internal import SystemPackage
internal import UAPI

/// A device as the guest's vIOMMU knows it (iommufd: struct iommufd_vdevice). It is destroyed by
/// IOMMU_DESTROY, or when its device is unbound; its ID is then a tombstone, because the client
/// still has it.
final class VDevice: Object, @unchecked Sendable {
  private let viommu: VIOMMU
  private let device: BoundDevice
  /// The number that the guest's unit uses for the device: a stream ID (SMMUv3), a device ID
  /// (AMD-Vi) or a requester ID (VT-d).
  let virtualID: UInt64

  private init(id: ObjectID, viommu: VIOMMU, device: BoundDevice, virtualID: UInt64) {
    self.viommu = viommu
    self.device = device
    self.virtualID = virtualID
    super.init(id: id, in: viommu.context)
    viommu.addUser()
    device.virtualDevice = self
  }

  /// Makes a vDEVICE. The ID is reserved; the caller finalizes or aborts.
  /// iommufd: iommufd_vdevice_alloc_ioctl()
  /// - Throws: `.invalidArgument` when the vIOMMU is of another unit, `.fileExists` when the device
  ///   has a vDEVICE or the vIOMMU has one with `virtualID`; what the driver throws.
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
      try viommu.implementation.addDevice(requester, virtualID: virtualID)
    } catch {
      context.objects.abort(id)
      throw error
    }
    viommu.host.setDevice(requester, virtualID: virtualID)
    return VDevice(id: id, viommu: viommu, device: device, virtualID: virtualID)
  }

  /// Destroys the vDEVICE because its device is being unbound.
  /// iommufd: iommufd_device_remove_vdev()
  func destroyLeavingTombstone() {
    do throws(Errno) {
      _ = try context.objects.remove(id, leavingTombstone: true)
    } catch {
      // The context is being destroyed and has removed the vDEVICE already.
      return
    }
    destroy()
  }

  /// iommufd: iommufd_vdevice_destroy()
  override func destroy() {
    context.lock.assertHeld()
    viommu.implementation.removeDevice(device.device.requesterID, virtualID: virtualID)
    viommu.host.setDevice(nil, virtualID: virtualID)
    device.virtualDevice = nil
    viommu.dropUser()
  }
}

// SPDX-License-Identifier: Apache-2.0

import CUAPI
import SystemPackage
import TestSupport
import UAPI

extension VFIOFixture {
  /// Binds a device to the iommufd and returns its ID.
  func bind(_ device: DeviceClient) -> Result<UInt32, Errno> {
    var command = vfio_device_bind_iommufd()
    command.argsz = UInt32(MemoryLayout<vfio_device_bind_iommufd>.size)
    command.iommufd = iommufd
    if let failure = device.call(.vfioDeviceBindIOMMUFD, &command) { return .failure(failure) }
    return .success(command.out_devid)
  }

  /// IOMMU_HWPT_ALLOC
  func allocate(
    _ device: UInt32, on target: UInt32, _ flags: UInt32 = 0, type: UInt32 = 0,
    data: (address: UInt64, length: UInt32) = (0, 0), fault: UInt32 = 0
  ) -> Result<UInt32, Errno> {
    var command = iommu_hwpt_alloc()
    command.size = UInt32(MemoryLayout<iommu_hwpt_alloc>.size)
    command.flags = flags
    command.dev_id = device
    command.pt_id = target
    command.data_type = type
    command.data_len = data.length
    command.data_uptr = data.address
    command.fault_id = fault
    let failure = DeviceClient(client, iommufd).call(.hwptAlloc, &command)
    if let failure { return .failure(failure) }
    return .success(command.out_hwpt_id)
  }

  /// IOMMU_VIOMMU_ALLOC
  func makeVirtualIOMMU(
    _ device: UInt32, on parent: UInt32, type: UInt32
  ) -> Result<UInt32, Errno> {
    var command = iommu_viommu_alloc()
    command.size = UInt32(MemoryLayout<iommu_viommu_alloc>.size)
    command.type = type
    command.dev_id = device
    command.hwpt_id = parent
    let failure = DeviceClient(client, iommufd).call(.viommuAlloc, &command)
    if let failure { return .failure(failure) }
    return .success(command.out_viommu_id)
  }

  /// IOMMU_VDEVICE_ALLOC
  func makeVirtualDevice(
    _ device: UInt32, on viommu: UInt32, id: UInt64
  ) -> Result<UInt32, Errno> {
    var command = iommu_vdevice_alloc()
    command.size = UInt32(MemoryLayout<iommu_vdevice_alloc>.size)
    command.viommu_id = viommu
    command.dev_id = device
    command.virt_id = id
    let failure = DeviceClient(client, iommufd).call(.vdeviceAlloc, &command)
    if let failure { return .failure(failure) }
    return .success(command.out_vdevice_id)
  }

  /// IOMMU_FAULT_QUEUE_ALLOC
  func makeFaultQueue() -> Result<(id: UInt32, file: DeviceClient), Errno> {
    var command = iommu_fault_alloc()
    command.size = UInt32(MemoryLayout<iommu_fault_alloc>.size)
    let failure = DeviceClient(client, iommufd).call(.faultQueueAlloc, &command)
    if let failure { return .failure(failure) }
    let file = DeviceClient(client, Int32(bitPattern: command.out_fault_fd))
    return .success((command.out_fault_id, file))
  }
}

extension Result where Failure == Errno {
  var error: Errno? {
    if case .failure(let error) = self { error } else { nil }
  }
}

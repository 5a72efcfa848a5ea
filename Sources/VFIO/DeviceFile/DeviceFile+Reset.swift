// SPDX-License-Identifier: Apache-2.0

// VFIO_DEVICE_RESET resets one function. VFIO_DEVICE_PCI_HOT_RESET resets a bus with all its
// devices, so the client must own each of these devices; VFIO_DEVICE_GET_PCI_HOT_RESET_INFO lists
// them.

internal import CUAPI
internal import IOMMU
internal import IOMMUFD
internal import PCI
internal import SystemPackage
internal import UAPI

extension DeviceFile {
  /// vfio_pci_ioctl_reset()
  func reset(_ opened: OpenedDevice) throws(Errno) {
    guard device.canReset else { throw .invalidArgument }
    opened.reset()
  }

  /// vfio_pci_ioctl_get_pci_hot_reset_info()
  func getHotResetInfo(_ call: DeviceCall, _ binding: DeviceBinding) throws(Errno) {
    let prefixSize = Ioctl.vfioDeviceGetPCIHotResetInfo.minimumSize
    var prefix: HotResetPrefix = try call.load(count: prefixSize)
    guard prefix.argsz >= prefixSize else { throw .invalidArgument }
    guard device.deviceSet.isBus else { throw .operationNotSupportedByDevice }
    let devices = device.deviceSet.devices
    prefix.flags = 0
    prefix.count = UInt32(devices.count)

    let entrySize = MemoryLayout<DependentDevice>.stride
    guard devices.count <= (Int(prefix.argsz) - prefixSize) / entrySize else {
      try call.store(prefix, count: prefixSize)
      throw .noSpace
    }
    let entries = device.deviceSet.lock.withLock {
      devices.map { Self.entry(for: $0, of: binding.context) }
    }
    for (index, entry) in entries.enumerated() {
      try call.client.store(
        entry, at: call.argument &+ UInt64(prefixSize + index * entrySize))
    }
    prefix.flags = UInt32(VFIO_PCI_HOT_RESET_FLAG_DEV_ID)
    if entries.allSatisfy({ Int32(bitPattern: $0.id) != VFIO_PCI_DEVID_NOT_OWNED }) {
      prefix.flags |= UInt32(VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED)
    }
    try call.store(prefix, count: prefixSize)
  }

  /// vfio_pci_ioctl_pci_hot_reset(). The client proves ownership by the iommufd that the devices
  /// are bound to, so the struct has no group descriptors.
  func hotReset(_ call: DeviceCall, _ binding: DeviceBinding) throws(Errno) {
    let prefixSize = Ioctl.vfioDevicePCIHotReset.minimumSize
    let prefix: HotResetPrefix = try call.load(count: prefixSize)
    guard prefix.argsz >= prefixSize, prefix.flags == 0, prefix.count == 0 else {
      throw .invalidArgument
    }
    guard device.deviceSet.isBus else { throw .operationNotSupportedByDevice }
    let set = device.deviceSet
    try set.lock.withLock { () throws(Errno) in
      let devices = set.devices
      for device in devices where Self.deviceID(of: device, in: binding.context) == nil {
        throw .invalidArgument
      }
      for device in devices { device.function.setPowerState(.d0) }
      for device in devices { device.function.resetKeepingConfiguration() }
    }
  }

  private static func entry(
    for device: VFIODevice, of context: Context
  ) -> DependentDevice {
    let requester = device.function.requester.rawValue
    let id = deviceID(of: device, in: context)
    return DependentDevice(
      id: id ?? UInt32(bitPattern: VFIO_PCI_DEVID_NOT_OWNED), segment: 0,
      bus: UInt8(requester >> 8), deviceAndFunction: UInt8(requester & 0xff))
  }

  /// Returns the device's ID in `context`, VFIO_PCI_DEVID_OWNED when only another device of its
  /// group is bound to `context`, or `nil` when no device of the group is:
  /// vfio_iommufd_get_dev_id().
  private static func deviceID(of device: VFIODevice, in context: Context) -> UInt32? {
    if let binding = device.binding, binding.context === context {
      return binding.boundDevice.id.rawValue
    }
    return context.hasGroup(device.physical.group) ? UInt32(VFIO_PCI_DEVID_OWNED) : nil
  }
}

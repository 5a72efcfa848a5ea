// VFIO_DEVICE_RESET resets one function; the hot reset pair resets a bus with everything on it, for
// which the client must own it all.

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
  func getHotResetInfo(_ call: DeviceCall, _ session: VFIODevice.Session) throws(Errno) {
    let headerSize = Ioctl.vfioDeviceGetPCIHotResetInfo.minimumSize
    var header: HotResetHeader = try call.load(count: headerSize)
    guard header.argsz >= headerSize else { throw .invalidArgument }
    guard device.deviceSet.isBus else { throw .operationNotSupportedByDevice }
    let devices = device.deviceSet.devices
    header.flags = 0
    header.count = UInt32(devices.count)

    let entrySize = MemoryLayout<DependentDevice>.stride
    guard devices.count <= (Int(header.argsz) - headerSize) / entrySize else {
      try call.store(header, count: headerSize)
      throw .noSpace
    }
    let entries = device.deviceSet.lock.withLock {
      devices.map { Self.entry(for: $0, of: session.context) }
    }
    for (index, entry) in entries.enumerated() {
      try call.client.store(
        entry, at: call.argument &+ UInt64(headerSize + index * entrySize))
    }
    header.flags = UInt32(VFIO_PCI_HOT_RESET_FLAG_DEV_ID)
    if entries.allSatisfy({ Int32(bitPattern: $0.id) != VFIO_PCI_DEVID_NOT_OWNED }) {
      header.flags |= UInt32(VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED)
    }
    try call.store(header, count: headerSize)
  }

  /// vfio_pci_ioctl_pci_hot_reset(): a device opened through its own node proves what it owns by its
  /// iommufd, so it gives no descriptors.
  func hotReset(_ call: DeviceCall, _ session: VFIODevice.Session) throws(Errno) {
    let headerSize = Ioctl.vfioDevicePCIHotReset.minimumSize
    let header: HotResetHeader = try call.load(count: headerSize)
    guard header.argsz >= headerSize, header.flags == 0, header.count == 0 else {
      throw .invalidArgument
    }
    guard device.deviceSet.isBus else { throw .operationNotSupportedByDevice }
    let set = device.deviceSet
    try set.lock.withLock { () throws(Errno) in
      let devices = set.devices
      for device in devices where Self.deviceID(of: device, in: session.context) == nil {
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

  /// vfio_iommufd_get_dev_id(): the device's id on `context`; "owned" when only another device of its
  /// group is bound there; nil when it is somebody else's or nobody's.
  private static func deviceID(of device: VFIODevice, in context: Context) -> UInt32? {
    if let session = device.session, session.context === context {
      return session.bound.id.rawValue
    }
    return context.hasGroup(device.physical.group) ? UInt32(VFIO_PCI_DEVID_OWNED) : nil
  }
}

// SPDX-License-Identifier: Apache-2.0

// VFIO_DEVICE_GET_INFO, VFIO_DEVICE_GET_REGION_INFO and VFIO_DEVICE_GET_IRQ_INFO.

internal import CUAPI
internal import PCI
internal import SystemPackage
internal import UAPI

/// Region indices (VFIO_PCI_…_REGION_INDEX). ``RegionOffset`` has the file offsets of regions.
enum RegionIndex {
  static let bars: ClosedRange<UInt64> = 0...5
  static let expansionROM: UInt64 = 6
  static let config: UInt64 = 7
  static let vga: UInt64 = 8
  static let count: UInt64 = 9
}

/// Interrupt indices (VFIO_PCI_…_IRQ_INDEX).
enum InterruptIndex {
  static let intx: UInt32 = 0
  static let msi: UInt32 = 1
  static let msix: UInt32 = 2
  static let error: UInt32 = 3
  static let request: UInt32 = 4
  static let count: UInt32 = 5
}

extension DeviceFile {
  /// vfio_pci_ioctl_get_info(). There is no capability, because the device completes no AtomicOps.
  func getInfo(_ call: DeviceCall) throws(Errno) {
    let minimum = Ioctl.vfioDeviceGetInfo.minimumSize
    var info: vfio_device_info = try call.load(count: minimum)
    guard info.argsz >= minimum else { throw .invalidArgument }
    info.flags = UInt32(VFIO_DEVICE_FLAGS_PCI)
    if device.canReset { info.flags |= UInt32(VFIO_DEVICE_FLAGS_RESET) }
    info.num_regions = UInt32(RegionIndex.count)
    info.num_irqs = InterruptIndex.count
    try call.store(info, count: min(Int(info.argsz), MemoryLayout.size(ofValue: info)))
  }

  /// vfio_get_region_info(), vfio_pci_ioctl_get_region_info(). A region that the device does not
  /// have is reported with size 0. The VGA region is EINVAL instead.
  func getRegionInfo(_ call: DeviceCall) throws(Errno) {
    let size = Ioctl.vfioDeviceGetRegionInfo.minimumSize
    var info: vfio_region_info = try call.load(count: size)
    guard info.argsz >= size else { throw .invalidArgument }
    let index = UInt64(info.index)
    let readWrite = UInt32(VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE)
    switch index {
    case RegionIndex.config:
      info.size = UInt64(device.function.configSize)
      info.flags = readWrite
    case RegionIndex.bars:
      info.size = device.function.description.bar(Int(index))?.size ?? 0
      info.flags = info.size == 0 ? 0 : readWrite
    case RegionIndex.expansionROM:
      info.size = 0
      info.flags = 0
    default: throw .invalidArgument
    }
    info.offset = RegionOffset.start(of: index)
    try call.store(info, count: size)
  }

  /// vfio_pci_ioctl_get_irq_info()
  func getIRQInfo(_ call: DeviceCall, _ opened: OpenedDevice) throws(Errno) {
    let size = Ioctl.vfioDeviceGetIRQInfo.minimumSize
    var info: vfio_irq_info = try call.load(count: size)
    guard info.argsz >= size, info.index < InterruptIndex.count else { throw .invalidArgument }
    info.flags = UInt32(VFIO_IRQ_INFO_EVENTFD)
    info.count = opened.interruptCount(info.index)
    if info.index == InterruptIndex.intx {
      info.flags |= UInt32(VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED)
    } else if info.index != InterruptIndex.msix || device.function.description.msixTable == nil {
      // MSI-X vectors can be added while others are in use (pci_msix_can_alloc_dyn()).
      info.flags |= UInt32(VFIO_IRQ_INFO_NORESIZE)
    }
    try call.store(info, count: size)
  }
}

// VFIO_DEVICE_FEATURE: what a vfio-pci device can do beside the old calls. Ours does not migrate, has
// no SR-IOV and is not s390's, so low power is what remains; the rest is ENOTTY.

internal import CUAPI
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

extension DeviceFile {
  /// vfio_ioctl_device_feature()
  func feature(_ call: DeviceCall, _ opened: OpenedDevice) throws(Errno) {
    let headerSize = Ioctl.vfioDeviceFeature.minimumSize
    let header: FeatureHeader = try call.load(count: headerSize)
    guard header.argsz >= headerSize else { throw .invalidArgument }
    let flags = FeatureFlags(rawValue: header.flags)
    let number = header.flags & UInt32(VFIO_DEVICE_FEATURE_MASK)
    guard flags.subtracting([.get, .set, .probe]).rawValue == number,
      flags.contains(.probe) || !flags.isSuperset(of: [.get, .set])
    else { throw .invalidArgument }

    let feature = FeatureRequest(
      call: call, flags: flags, data: call.argument &+ UInt64(headerSize),
      dataSize: Int(header.argsz) - headerSize)
    switch Int32(number) {
    case VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY:
      if try feature.isRequested(.set) { try engage(opened, wakeUp: nil) }
    case VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP:
      try enterLowPowerWithWakeUp(feature, opened)
    case VFIO_DEVICE_FEATURE_LOW_POWER_EXIT:
      if try feature.isRequested(.set) { opened.power.withLock { $0 = .init() } }
    case VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2:
      // Refused for want of a migration flag, before anybody asks whether the device migrates.
      throw .invalidArgument
    default: throw .inappropriateIOCTLForDevice
    }
  }

  /// vfio_pci_core_pm_entry_with_wakeup()
  private func enterLowPowerWithWakeUp(
    _ feature: FeatureRequest, _ opened: OpenedDevice
  ) throws(Errno) {
    typealias Entry = vfio_device_low_power_entry_with_wakeup
    guard try feature.isRequested(.set, size: MemoryLayout<Entry>.size) else { return }
    let client = feature.call.client
    let entry: Entry = try client.load(at: feature.data)
    guard entry.wakeup_eventfd >= 0 else { throw .invalidArgument }
    try engage(
      opened, wakeUp: try EventDescriptor(client.duplicateDescriptor(entry.wakeup_eventfd)))
  }

  /// vfio_pci_runtime_pm_entry(): once at a time.
  private func engage(_ opened: OpenedDevice, wakeUp: EventDescriptor?) throws(Errno) {
    let isFirst = opened.power.withLock { power in
      guard !power.isEngaged else { return false }
      power.isEngaged = true
      power.wakeUp = wakeUp
      return true
    }
    guard isFirst else { throw .invalidArgument }
  }
}

/// Bits 18:16 of `vfio_device_feature.flags`.
struct FeatureFlags: OptionSet {
  let rawValue: UInt32
  static let get = FeatureFlags(rawValue: 1 << 16)
  static let set = FeatureFlags(rawValue: 1 << 17)
  static let probe = FeatureFlags(rawValue: 1 << 18)
}

/// One VFIO_DEVICE_FEATURE whose header is sound.
private struct FeatureRequest {
  let call: DeviceCall
  let flags: FeatureFlags
  let data: UInt64
  let dataSize: Int

  /// Whether to do it, or only to say that it can be done (vfio_check_feature()).
  func isRequested(_ supported: FeatureFlags, size: Int = 0) throws(Errno) -> Bool {
    let wanted = flags.intersection([.get, .set])
    guard supported.isSuperset(of: wanted) else { throw .invalidArgument }
    if flags.contains(.probe) { return false }
    guard !wanted.isEmpty, dataSize >= size else { throw .invalidArgument }
    return true
  }
}

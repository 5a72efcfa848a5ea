// SPDX-License-Identifier: Apache-2.0

// VFIO_DEVICE_FEATURE. The device does not migrate, has no SR-IOV and is not an s390 device, so
// only the low power features exist. Other features are ENOTTY.

internal import CUAPI
internal import Host
internal import SystemPackage
internal import UAPI

extension DeviceFile {
  /// vfio_ioctl_device_feature()
  func feature(_ call: DeviceCall, _ opened: OpenedDevice) throws(Errno) {
    let prefixSize = Ioctl.vfioDeviceFeature.minimumSize
    let prefix: FeaturePrefix = try call.load(count: prefixSize)
    guard prefix.argsz >= prefixSize else { throw .invalidArgument }
    let flags = FeatureFlags(rawValue: prefix.flags)
    let number = prefix.flags & UInt32(VFIO_DEVICE_FEATURE_MASK)
    guard flags.subtracting([.get, .set, .probe]).rawValue == number,
      flags.contains(.probe) || !flags.isSuperset(of: [.get, .set])
    else { throw .invalidArgument }

    let feature = FeatureRequest(
      call: call, flags: flags, data: call.argument &+ UInt64(prefixSize),
      dataSize: Int(prefix.argsz) - prefixSize)
    switch Int32(number) {
    case VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY:
      if try feature.isRequested(.set) { try opened.allowLowPower(wakeUp: nil) }
    case VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP:
      try enterLowPowerWithWakeUp(feature, opened)
    case VFIO_DEVICE_FEATURE_LOW_POWER_EXIT:
      if try feature.isRequested(.set) { opened.endLowPower() }
    case VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2:
      // The kernel requires a migration flag before it checks whether the device can migrate.
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
    try opened.allowLowPower(
      wakeUp: try EventDescriptor(client.duplicateDescriptor(entry.wakeup_eventfd)))
  }
}

/// Bits 18:16 of `vfio_device_feature.flags`.
struct FeatureFlags: OptionSet {
  let rawValue: UInt32
  static let get = FeatureFlags(rawValue: 1 << 16)
  static let set = FeatureFlags(rawValue: 1 << 17)
  static let probe = FeatureFlags(rawValue: 1 << 18)
}

/// One VFIO_DEVICE_FEATURE whose prefix has been validated.
private struct FeatureRequest {
  let call: DeviceCall
  let flags: FeatureFlags
  /// The address of the data behind the prefix.
  let data: UInt64
  let dataSize: Int

  /// Returns whether the client requests the feature's operation. With PROBE the client only asks
  /// whether the operation is supported (vfio_check_feature()).
  /// - Parameters:
  ///   - supported: The operations that the feature has: get, set or both.
  ///   - size: Bytes of data that the operation needs.
  func isRequested(_ supported: FeatureFlags, size: Int = 0) throws(Errno) -> Bool {
    let requested = flags.intersection([.get, .set])
    guard supported.isSuperset(of: requested) else { throw .invalidArgument }
    if flags.contains(.probe) { return false }
    guard !requested.isEmpty, dataSize >= size else { throw .invalidArgument }
    return true
  }
}

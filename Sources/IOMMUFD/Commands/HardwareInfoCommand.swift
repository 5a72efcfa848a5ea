// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
internal import SystemPackage
internal import UAPI

/// IOMMU_GET_HW_INFO. iommufd: iommufd_get_hw_info()
enum HardwareInfoCommand {
  static func execute(_ command: inout UserCommand<iommu_hw_info>) throws(Errno) {
    let arguments = command.arguments
    let hasType = IOMMU_HW_INFO_FLAG_INPUT_TYPE.rawValue
    let reserved = arguments.__reserved
    guard arguments.flags & ~hasType == 0, reserved.0 | reserved.1 | reserved.2 == 0 else {
      throw .notSupported
    }
    let type = arguments.flags & hasType != 0 ? arguments.in_data_type : 0
    let context = command.context
    let device = try context.lock.withLock { () throws(Errno) in
      try context.objects.lookUp(ObjectID(arguments.dev_id), as: BoundDevice.self)
    }
    let physical = device.device
    try FaultInjection.step()
    let info = try physical.driver.hardwareInfo(of: physical.requesterID, type: type)
    try store(info?.bytes ?? [], at: arguments.data_uptr, arguments.data_len, command.client)

    command.arguments.out_data_type = info?.type ?? IOMMU_HW_INFO_TYPE_NONE.rawValue
    command.arguments.data_len = UInt32(info?.bytes.count ?? 0)
    command.arguments.out_capabilities = capabilities(of: device)
    command.arguments.out_max_pasid_log2 = UInt8(physical.pasidWidth)
    try command.respond()
  }

  private static func capabilities(of device: BoundDevice) -> UInt64 {
    let unit = device.capabilities
    var capabilities: UInt64 = 0
    if unit.contains(.dirtyTracking) {
      capabilities |= UInt64(IOMMU_HW_CAP_DIRTY_TRACKING.rawValue)
    }
    if !unit.contains(.ats) {
      capabilities |= UInt64(IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED.rawValue)
    }
    guard device.device.hasPASIDs else { return capabilities }
    if unit.contains(.pasidExecute) {
      capabilities |= UInt64(IOMMU_HW_CAP_PCI_PASID_EXEC.rawValue)
    }
    if unit.contains(.pasidPrivileged) {
      capabilities |= UInt64(IOMMU_HW_CAP_PCI_PASID_PRIV.rawValue)
    }
    return capabilities
  }

  /// Stores as much of `bytes` as fits into `length` bytes and fills the rest with zeros.
  private static func store(
    _ bytes: [UInt8], at address: UInt64, _ length: UInt32, _ client: any Client
  ) throws(Errno) {
    let zeros = [UInt8](repeating: 0, count: 4096)
    var (done, length) = (0, Int(length))
    var piece = bytes.prefix(length)[...]
    while length > 0 {
      if piece.isEmpty { piece = zeros.prefix(length)[...] }
      let (target, overflow) = address.addingReportingOverflow(UInt64(done))
      guard !overflow else { throw .badAddress }
      try client.storeArray(piece, at: target)
      done += piece.count
      length -= piece.count
      piece = []
    }
  }
}

// What one context knows of an IOMMU group (iommufd: struct iommufd_group): what its devices are
// attached to, without PASID and for every PASID. The group is attached once, for the first device;
// later devices of the group must follow the same table. Guarded by the control lock.

internal import IOMMU
internal import SystemPackage
internal import UAPI

final class DeviceGroup {
  /// One attachment of the group (iommufd: struct iommufd_attach). It has at least one device.
  struct Attachment {
    var hwpt: HWPT
    /// What page requests are told of it.
    var handle: AttachmentHandle
    var devices: [ObjectID: BoundDevice]
  }

  let group: IOMMUGroup
  /// Keyed by PASID, nil being DMA without one.
  var attachments: [PASID?: Attachment] = [:]
  /// Devices of the group that are bound to the context.
  var boundDevices = 0

  init(_ group: IOMMUGroup) {
    self.group = group
  }

  /// A PASID can only be attached beside tables that allow it. iommufd: iommufd_hwpt_pasid_compat()
  func requireCompatibility(of hwpt: HWPT, pasid: PASID?) throws(Errno) {
    if pasid == nil {
      let hasPASIDs = attachments.keys.contains { $0 != nil }
      guard hwpt.isPASIDCompatible || !hasPASIDs else { throw .invalidArgument }
    } else {
      guard hwpt.isPASIDCompatible else { throw .invalidArgument }
      if let plain = attachments[nil], !plain.hwpt.isPASIDCompatible { throw .invalidArgument }
    }
  }
}

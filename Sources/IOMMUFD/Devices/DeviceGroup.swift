// SPDX-License-Identifier: Apache-2.0

internal import IOMMU
internal import SystemPackage
internal import UAPI

/// An IOMMU group in one context (iommufd: struct iommufd_group): the attachments of its devices. A
/// group is attached as a whole when its first device is; every further device must attach to the
/// same HWPT. Exists while the group has bound devices. Guarded by the context's lock.
final class DeviceGroup {
  /// One attachment of the group (iommufd: struct iommufd_attach). Has at least one device.
  struct Attachment {
    var hwpt: HWPT
    var handle: AttachmentHandle
    var devices: [ObjectID: BoundDevice]
  }

  let group: IOMMUGroup
  /// By PASID; `nil` is the attachment without PASID.
  var attachments: [PASID?: Attachment] = [:]
  /// The number of devices of the group that are bound to the context.
  var boundDevices = 0

  init(_ group: IOMMUGroup) {
    self.group = group
  }

  /// Checks that a group with an attachment to a PASID has only HWPTs that were allocated with
  /// IOMMU_HWPT_ALLOC_PASID. iommufd: iommufd_hwpt_pasid_compat()
  /// - Throws: `.invalidArgument`.
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

// SPDX-License-Identifier: Apache-2.0

// The ioctls of a VFIO device file (uapi/linux/vfio.h), by C name.

internal import CUAPI

extension Ioctl {
  package static let ofVFIODevice: [Ioctl] = [
    vfioDeviceAttachIOMMUFDPageTable, vfioDeviceBindIOMMUFD, vfioDeviceDetachIOMMUFDPageTable,
    vfioDeviceFeature, vfioDeviceGetInfo, vfioDeviceGetIRQInfo, vfioDeviceGetPCIHotResetInfo,
    vfioDeviceGetRegionInfo, vfioDeviceIOEventFD, vfioDevicePCIHotReset, vfioDeviceReset,
    vfioDeviceSetIRQs,
  ]

  package static let vfioDeviceAttachIOMMUFDPageTable = Ioctl(
    "VFIO_DEVICE_ATTACH_IOMMUFD_PT", .vfio(19), .vfioDevice,
    minimumThrough: \vfio_device_attach_iommufd_pt.pt_id,
    flags: ["flags": [.init("VFIO_DEVICE_ATTACH_PASID", VFIO_DEVICE_ATTACH_PASID)]])

  package static let vfioDeviceBindIOMMUFD = Ioctl(
    "VFIO_DEVICE_BIND_IOMMUFD", .vfio(18), .vfioDevice,
    minimumThrough: \vfio_device_bind_iommufd.out_devid,
    flags: ["flags": [.init("VFIO_DEVICE_BIND_FLAG_TOKEN", VFIO_DEVICE_BIND_FLAG_TOKEN)]])

  package static let vfioDeviceDetachIOMMUFDPageTable = Ioctl(
    "VFIO_DEVICE_DETACH_IOMMUFD_PT", .vfio(20), .vfioDevice,
    minimumThrough: \vfio_device_detach_iommufd_pt.flags,
    flags: ["flags": [.init("VFIO_DEVICE_DETACH_PASID", VFIO_DEVICE_DETACH_PASID)]])

  /// The low half of `flags` is the number of the feature.
  package static let vfioDeviceFeature = Ioctl(
    "VFIO_DEVICE_FEATURE", .vfio(17), .vfioDevice,
    minimumThrough: \vfio_device_feature.flags,
    flags: [
      "flags": [
        .init("VFIO_DEVICE_FEATURE_GET", VFIO_DEVICE_FEATURE_GET),
        .init("VFIO_DEVICE_FEATURE_SET", VFIO_DEVICE_FEATURE_SET),
        .init("VFIO_DEVICE_FEATURE_PROBE", VFIO_DEVICE_FEATURE_PROBE),
      ]
    ])

  package static let vfioDeviceGetInfo = Ioctl(
    "VFIO_DEVICE_GET_INFO", .vfio(7), .vfioDevice,
    minimumThrough: \vfio_device_info.num_irqs,
    flags: [
      "flags": [
        .init("VFIO_DEVICE_FLAGS_RESET", VFIO_DEVICE_FLAGS_RESET),
        .init("VFIO_DEVICE_FLAGS_PCI", VFIO_DEVICE_FLAGS_PCI),
        .init("VFIO_DEVICE_FLAGS_PLATFORM", VFIO_DEVICE_FLAGS_PLATFORM),
        .init("VFIO_DEVICE_FLAGS_AMBA", VFIO_DEVICE_FLAGS_AMBA),
        .init("VFIO_DEVICE_FLAGS_CCW", VFIO_DEVICE_FLAGS_CCW),
        .init("VFIO_DEVICE_FLAGS_AP", VFIO_DEVICE_FLAGS_AP),
        .init("VFIO_DEVICE_FLAGS_FSL_MC", VFIO_DEVICE_FLAGS_FSL_MC),
        .init("VFIO_DEVICE_FLAGS_CAPS", VFIO_DEVICE_FLAGS_CAPS),
        .init("VFIO_DEVICE_FLAGS_CDX", VFIO_DEVICE_FLAGS_CDX),
      ]
    ])

  package static let vfioDeviceGetIRQInfo = Ioctl(
    "VFIO_DEVICE_GET_IRQ_INFO", .vfio(9), .vfioDevice,
    minimumThrough: \vfio_irq_info.count,
    flags: [
      "flags": [
        .init("VFIO_IRQ_INFO_EVENTFD", VFIO_IRQ_INFO_EVENTFD),
        .init("VFIO_IRQ_INFO_MASKABLE", VFIO_IRQ_INFO_MASKABLE),
        .init("VFIO_IRQ_INFO_AUTOMASKED", VFIO_IRQ_INFO_AUTOMASKED),
        .init("VFIO_IRQ_INFO_NORESIZE", VFIO_IRQ_INFO_NORESIZE),
      ]
    ])

  package static let vfioDeviceGetPCIHotResetInfo = Ioctl(
    "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", .vfio(12), .vfioDevice,
    minimumThrough: \vfio_pci_hot_reset_info.count,
    flags: [
      "flags": [
        .init("VFIO_PCI_HOT_RESET_FLAG_DEV_ID", VFIO_PCI_HOT_RESET_FLAG_DEV_ID),
        .init("VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED", VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED),
      ]
    ])

  package static let vfioDeviceGetRegionInfo = Ioctl(
    "VFIO_DEVICE_GET_REGION_INFO", .vfio(8), .vfioDevice,
    minimumThrough: \vfio_region_info.offset,
    flags: [
      "flags": [
        .init("VFIO_REGION_INFO_FLAG_READ", VFIO_REGION_INFO_FLAG_READ),
        .init("VFIO_REGION_INFO_FLAG_WRITE", VFIO_REGION_INFO_FLAG_WRITE),
        .init("VFIO_REGION_INFO_FLAG_MMAP", VFIO_REGION_INFO_FLAG_MMAP),
        .init("VFIO_REGION_INFO_FLAG_CAPS", VFIO_REGION_INFO_FLAG_CAPS),
      ]
    ])

  package static let vfioDeviceIOEventFD = Ioctl(
    "VFIO_DEVICE_IOEVENTFD", .vfio(16), .vfioDevice,
    minimumThrough: \vfio_device_ioeventfd.fd,
    flags: [
      "flags": [
        .init("VFIO_DEVICE_IOEVENTFD_8", VFIO_DEVICE_IOEVENTFD_8),
        .init("VFIO_DEVICE_IOEVENTFD_16", VFIO_DEVICE_IOEVENTFD_16),
        .init("VFIO_DEVICE_IOEVENTFD_32", VFIO_DEVICE_IOEVENTFD_32),
        .init("VFIO_DEVICE_IOEVENTFD_64", VFIO_DEVICE_IOEVENTFD_64),
      ]
    ])

  package static let vfioDevicePCIHotReset = Ioctl(
    "VFIO_DEVICE_PCI_HOT_RESET", .vfio(13), .vfioDevice,
    minimumThrough: \vfio_pci_hot_reset.count)

  package static let vfioDeviceReset = Ioctl("VFIO_DEVICE_RESET", .vfio(11), .vfioDevice)

  package static let vfioDeviceSetIRQs = Ioctl(
    "VFIO_DEVICE_SET_IRQS", .vfio(10), .vfioDevice,
    minimumThrough: \vfio_irq_set.count,
    flags: [
      "flags": [
        .init("VFIO_IRQ_SET_DATA_NONE", VFIO_IRQ_SET_DATA_NONE),
        .init("VFIO_IRQ_SET_DATA_BOOL", VFIO_IRQ_SET_DATA_BOOL),
        .init("VFIO_IRQ_SET_DATA_EVENTFD", VFIO_IRQ_SET_DATA_EVENTFD),
        .init("VFIO_IRQ_SET_ACTION_MASK", VFIO_IRQ_SET_ACTION_MASK),
        .init("VFIO_IRQ_SET_ACTION_UNMASK", VFIO_IRQ_SET_ACTION_UNMASK),
        .init("VFIO_IRQ_SET_ACTION_TRIGGER", VFIO_IRQ_SET_ACTION_TRIGGER),
      ]
    ])
}

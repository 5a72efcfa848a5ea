// SPDX-License-Identifier: Apache-2.0

// The ioctls of /dev/iommu (uapi/linux/iommufd.h). Order and minimum sizes are those of the
// kernel's table (iommufd: iommufd_ioctl_ops[]).

internal import CUAPI

extension Ioctl {
  package static let ofIOMMUFD: [Ioctl] = [
    destroy, faultQueueAlloc, getHardwareInfo, hardwareQueueAlloc, hwptAlloc, hwptGetDirtyBitmap,
    hwptInvalidate, hwptSetDirtyTracking, ioasAlloc, ioasAllowIOVAs, ioasChangeProcess, ioasCopy,
    ioasIOVARanges, ioasMap, ioasMapFile, ioasNoIOMMUGetPA, ioasUnmap, option, vdeviceAlloc,
    veventqAlloc, vfioIOAS, viommuAlloc,
  ]

  package static let destroy = Ioctl(
    "IOMMU_DESTROY", .io(IOMMUFD_CMD_DESTROY), .iommufd, minimumThrough: \iommu_destroy.id)

  package static let faultQueueAlloc = Ioctl(
    "IOMMU_FAULT_QUEUE_ALLOC", .io(IOMMUFD_CMD_FAULT_QUEUE_ALLOC), .iommufd,
    minimumThrough: \iommu_fault_alloc.out_fault_fd)

  package static let getHardwareInfo = Ioctl(
    "IOMMU_GET_HW_INFO", .io(IOMMUFD_CMD_GET_HW_INFO), .iommufd,
    minimumThrough: \iommu_hw_info.__reserved,
    flags: [
      "flags": [.init("IOMMU_HW_INFO_FLAG_INPUT_TYPE", IOMMU_HW_INFO_FLAG_INPUT_TYPE)],
      "out_capabilities": [
        .init("IOMMU_HW_CAP_DIRTY_TRACKING", IOMMU_HW_CAP_DIRTY_TRACKING),
        .init("IOMMU_HW_CAP_PCI_PASID_EXEC", IOMMU_HW_CAP_PCI_PASID_EXEC),
        .init("IOMMU_HW_CAP_PCI_PASID_PRIV", IOMMU_HW_CAP_PCI_PASID_PRIV),
        .init("IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED", IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED),
      ],
    ])

  package static let hardwareQueueAlloc = Ioctl(
    "IOMMU_HW_QUEUE_ALLOC", .io(IOMMUFD_CMD_HW_QUEUE_ALLOC), .iommufd,
    minimumThrough: \iommu_hw_queue_alloc.length)

  package static let hwptAlloc = Ioctl(
    "IOMMU_HWPT_ALLOC", .io(IOMMUFD_CMD_HWPT_ALLOC), .iommufd,
    minimumThrough: \iommu_hwpt_alloc.__reserved,
    flags: [
      "flags": [
        .init("IOMMU_HWPT_ALLOC_NEST_PARENT", IOMMU_HWPT_ALLOC_NEST_PARENT),
        .init("IOMMU_HWPT_ALLOC_DIRTY_TRACKING", IOMMU_HWPT_ALLOC_DIRTY_TRACKING),
        .init("IOMMU_HWPT_FAULT_ID_VALID", IOMMU_HWPT_FAULT_ID_VALID),
        .init("IOMMU_HWPT_ALLOC_PASID", IOMMU_HWPT_ALLOC_PASID),
      ]
    ])

  package static let hwptGetDirtyBitmap = Ioctl(
    "IOMMU_HWPT_GET_DIRTY_BITMAP", .io(IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP), .iommufd,
    minimumThrough: \iommu_hwpt_get_dirty_bitmap.data,
    flags: [
      "flags": [
        .init("IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR", IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR)
      ]
    ])

  package static let hwptInvalidate = Ioctl(
    "IOMMU_HWPT_INVALIDATE", .io(IOMMUFD_CMD_HWPT_INVALIDATE), .iommufd,
    minimumThrough: \iommu_hwpt_invalidate.__reserved)

  package static let hwptSetDirtyTracking = Ioctl(
    "IOMMU_HWPT_SET_DIRTY_TRACKING", .io(IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING), .iommufd,
    minimumThrough: \iommu_hwpt_set_dirty_tracking.__reserved,
    flags: [
      "flags": [.init("IOMMU_HWPT_DIRTY_TRACKING_ENABLE", IOMMU_HWPT_DIRTY_TRACKING_ENABLE)]
    ])

  package static let ioasAlloc = Ioctl(
    "IOMMU_IOAS_ALLOC", .io(IOMMUFD_CMD_IOAS_ALLOC), .iommufd,
    minimumThrough: \iommu_ioas_alloc.out_ioas_id)

  package static let ioasAllowIOVAs = Ioctl(
    "IOMMU_IOAS_ALLOW_IOVAS", .io(IOMMUFD_CMD_IOAS_ALLOW_IOVAS), .iommufd,
    minimumThrough: \iommu_ioas_allow_iovas.allowed_iovas)

  package static let ioasChangeProcess = Ioctl(
    "IOMMU_IOAS_CHANGE_PROCESS", .io(IOMMUFD_CMD_IOAS_CHANGE_PROCESS), .iommufd,
    minimumThrough: \iommu_ioas_change_process.__reserved)

  package static let ioasCopy = Ioctl(
    "IOMMU_IOAS_COPY", .io(IOMMUFD_CMD_IOAS_COPY), .iommufd,
    minimumThrough: \iommu_ioas_copy.src_iova, flags: ["flags": mapFlags])

  package static let ioasIOVARanges = Ioctl(
    "IOMMU_IOAS_IOVA_RANGES", .io(IOMMUFD_CMD_IOAS_IOVA_RANGES), .iommufd,
    minimumThrough: \iommu_ioas_iova_ranges.out_iova_alignment)

  package static let ioasMap = Ioctl(
    "IOMMU_IOAS_MAP", .io(IOMMUFD_CMD_IOAS_MAP), .iommufd,
    minimumThrough: \iommu_ioas_map.iova, flags: ["flags": mapFlags])

  package static let ioasMapFile = Ioctl(
    "IOMMU_IOAS_MAP_FILE", .io(IOMMUFD_CMD_IOAS_MAP_FILE), .iommufd,
    minimumThrough: \iommu_ioas_map_file.iova, flags: ["flags": mapFlags])

  package static let ioasNoIOMMUGetPA = Ioctl(
    "IOMMU_IOAS_NOIOMMU_GET_PA", .io(IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA), .iommufd,
    minimumThrough: \iommu_ioas_noiommu_get_pa.out_phys)

  package static let ioasUnmap = Ioctl(
    "IOMMU_IOAS_UNMAP", .io(IOMMUFD_CMD_IOAS_UNMAP), .iommufd,
    minimumThrough: \iommu_ioas_unmap.length)

  package static let option = Ioctl(
    "IOMMU_OPTION", .io(IOMMUFD_CMD_OPTION), .iommufd, minimumThrough: \iommu_option.val64)

  package static let vdeviceAlloc = Ioctl(
    "IOMMU_VDEVICE_ALLOC", .io(IOMMUFD_CMD_VDEVICE_ALLOC), .iommufd,
    minimumThrough: \iommu_vdevice_alloc.virt_id)

  package static let veventqAlloc = Ioctl(
    "IOMMU_VEVENTQ_ALLOC", .io(IOMMUFD_CMD_VEVENTQ_ALLOC), .iommufd,
    minimumThrough: \iommu_veventq_alloc.out_veventq_fd)

  package static let vfioIOAS = Ioctl(
    "IOMMU_VFIO_IOAS", .io(IOMMUFD_CMD_VFIO_IOAS), .iommufd,
    minimumThrough: \iommu_vfio_ioas.__reserved)

  package static let viommuAlloc = Ioctl(
    "IOMMU_VIOMMU_ALLOC", .io(IOMMUFD_CMD_VIOMMU_ALLOC), .iommufd,
    minimumThrough: \iommu_viommu_alloc.out_viommu_id)

  private static let mapFlags: [IoctlFlag] = [
    .init("IOMMU_IOAS_MAP_FIXED_IOVA", IOMMU_IOAS_MAP_FIXED_IOVA),
    .init("IOMMU_IOAS_MAP_WRITEABLE", IOMMU_IOAS_MAP_WRITEABLE),
    .init("IOMMU_IOAS_MAP_READABLE", IOMMU_IOAS_MAP_READABLE),
  ]
}

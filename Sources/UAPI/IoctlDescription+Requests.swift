// The C names and structs of all requests. VFIO's container and device share numbers, so what a request is
// depends on the node.

internal import CUAPI

extension IoctlDescription {
  /// What `request` is on the node at `path`; nil when it is nothing.
  package static func of(_ request: UInt32, on path: String?) -> IoctlDescription? {
    let isDevice = path.map { $0.contains("vfio") } ?? false
    return (isDevice ? device : iommufd)[IoctlNumber(rawValue: request)]
  }

  private static let iommufd: [IoctlNumber: IoctlDescription] = [
    .destroy: .init("IOMMU_DESTROY", iommu_destroy.self),
    .faultQueueAlloc: .init("IOMMU_FAULT_QUEUE_ALLOC", iommu_fault_alloc.self),
    .getHardwareInfo: .init("IOMMU_GET_HW_INFO", iommu_hw_info.self),
    .hardwareQueueAlloc: .init("IOMMU_HW_QUEUE_ALLOC", iommu_hw_queue_alloc.self),
    .hwptAlloc: .init("IOMMU_HWPT_ALLOC", iommu_hwpt_alloc.self),
    .hwptGetDirtyBitmap: .init("IOMMU_HWPT_GET_DIRTY_BITMAP", iommu_hwpt_get_dirty_bitmap.self),
    .hwptInvalidate: .init("IOMMU_HWPT_INVALIDATE", iommu_hwpt_invalidate.self),
    .hwptSetDirtyTracking: .init(
      "IOMMU_HWPT_SET_DIRTY_TRACKING", iommu_hwpt_set_dirty_tracking.self),
    .ioasAlloc: .init("IOMMU_IOAS_ALLOC", iommu_ioas_alloc.self),
    .ioasAllowIOVAs: .init("IOMMU_IOAS_ALLOW_IOVAS", iommu_ioas_allow_iovas.self),
    .ioasChangeProcess: .init("IOMMU_IOAS_CHANGE_PROCESS", iommu_ioas_change_process.self),
    .ioasCopy: .init("IOMMU_IOAS_COPY", iommu_ioas_copy.self),
    .ioasIOVARanges: .init("IOMMU_IOAS_IOVA_RANGES", iommu_ioas_iova_ranges.self),
    .ioasMap: .init("IOMMU_IOAS_MAP", iommu_ioas_map.self),
    .ioasMapFile: .init("IOMMU_IOAS_MAP_FILE", iommu_ioas_map_file.self),
    .ioasNoIOMMUGetPA: .init("IOMMU_IOAS_NOIOMMU_GET_PA", iommu_ioas_noiommu_get_pa.self),
    .ioasUnmap: .init("IOMMU_IOAS_UNMAP", iommu_ioas_unmap.self),
    .option: .init("IOMMU_OPTION", iommu_option.self),
    .simFaultLogAlloc: .init("IOMMUFD_SIM_FAULT_LOG_ALLOC", iommufd_sim_fault_log_alloc.self),
    .simVTdInvalidateFail: .init(
      "IOMMUFD_SIM_VTD_INVALIDATE_FAIL", iommufd_sim_vtd_invalidate_fail.self),
    .test: .init("IOMMU_TEST_CMD", iommu_test_cmd.self),
    .vdeviceAlloc: .init("IOMMU_VDEVICE_ALLOC", iommu_vdevice_alloc.self),
    .veventqAlloc: .init("IOMMU_VEVENTQ_ALLOC", iommu_veventq_alloc.self),
    .vfioIOAS: .init("IOMMU_VFIO_IOAS", iommu_vfio_ioas.self),
    .viommuAlloc: .init("IOMMU_VIOMMU_ALLOC", iommu_viommu_alloc.self),

    .vfioCheckExtension: .init("VFIO_CHECK_EXTENSION"),
    .vfioGetAPIVersion: .init("VFIO_GET_API_VERSION"),
    .vfioIOMMUBind: .init("VFIO_IOMMU_BIND", vfio_iommu_type1_bind.self),
    .vfioIOMMUCacheInvalidate: .init(
      "VFIO_IOMMU_CACHE_INVALIDATE", vfio_iommu_type1_cache_invalidate.self),
    .vfioIOMMUGetInfo: .init("VFIO_IOMMU_GET_INFO", vfio_iommu_type1_info.self),
    .vfioIOMMUMapDMA: .init("VFIO_IOMMU_MAP_DMA", vfio_iommu_type1_dma_map.self),
    .vfioIOMMUPASIDRequest: .init(
      "VFIO_IOMMU_PASID_REQUEST", vfio_iommu_type1_pasid_request.self),
    .vfioIOMMUUnmapDMA: .init("VFIO_IOMMU_UNMAP_DMA", vfio_iommu_type1_dma_unmap.self),
    .vfioSetIOMMU: .init("VFIO_SET_IOMMU"),
  ]

  private static let device: [IoctlNumber: IoctlDescription] = [
    .vfioDeviceAttachIOMMUFDPageTable: .init(
      "VFIO_DEVICE_ATTACH_IOMMUFD_PT", vfio_device_attach_iommufd_pt.self),
    .vfioDeviceBindIOMMUFD: .init("VFIO_DEVICE_BIND_IOMMUFD", vfio_device_bind_iommufd.self),
    .vfioDeviceDetachIOMMUFDPageTable: .init(
      "VFIO_DEVICE_DETACH_IOMMUFD_PT", vfio_device_detach_iommufd_pt.self),
    .vfioDeviceFeature: .init("VFIO_DEVICE_FEATURE", vfio_device_feature.self),
    .vfioDeviceGetInfo: .init("VFIO_DEVICE_GET_INFO", vfio_device_info.self),
    .vfioDeviceGetIRQInfo: .init("VFIO_DEVICE_GET_IRQ_INFO", vfio_irq_info.self),
    .vfioDeviceGetPCIHotResetInfo: .init(
      "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", vfio_pci_hot_reset_info.self),
    .vfioDeviceGetRegionInfo: .init("VFIO_DEVICE_GET_REGION_INFO", vfio_region_info.self),
    .vfioDeviceIOEventFD: .init("VFIO_DEVICE_IOEVENTFD", vfio_device_ioeventfd.self),
    .vfioDevicePCIHotReset: .init("VFIO_DEVICE_PCI_HOT_RESET", vfio_pci_hot_reset.self),
    .vfioDeviceReset: .init("VFIO_DEVICE_RESET"),
    .vfioDeviceSetIRQs: .init("VFIO_DEVICE_SET_IRQS", vfio_irq_set.self),
  ]
}

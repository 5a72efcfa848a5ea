// The C names of the requests that `run --trace` prints. VFIO's container and device share numbers, so
// a name depends on the node.

internal import UAPI

enum RequestNames {
  /// The name of a request on the node at `path`; nil when it has none.
  @Sendable static func name(of request: UInt32, on path: String?) -> String? {
    let names = path?.hasPrefix("/dev/vfio") == true ? device : iommufd
    return names[IoctlNumber(rawValue: request)]
  }

  private static let iommufd: [IoctlNumber: String] = [
    .destroy: "IOMMU_DESTROY",
    .faultQueueAlloc: "IOMMU_FAULT_QUEUE_ALLOC",
    .getHardwareInfo: "IOMMU_GET_HW_INFO",
    .hardwareQueueAlloc: "IOMMU_HW_QUEUE_ALLOC",
    .hwptAlloc: "IOMMU_HWPT_ALLOC",
    .hwptGetDirtyBitmap: "IOMMU_HWPT_GET_DIRTY_BITMAP",
    .hwptInvalidate: "IOMMU_HWPT_INVALIDATE",
    .hwptSetDirtyTracking: "IOMMU_HWPT_SET_DIRTY_TRACKING",
    .ioasAlloc: "IOMMU_IOAS_ALLOC",
    .ioasAllowIOVAs: "IOMMU_IOAS_ALLOW_IOVAS",
    .ioasChangeProcess: "IOMMU_IOAS_CHANGE_PROCESS",
    .ioasCopy: "IOMMU_IOAS_COPY",
    .ioasIOVARanges: "IOMMU_IOAS_IOVA_RANGES",
    .ioasMap: "IOMMU_IOAS_MAP",
    .ioasMapFile: "IOMMU_IOAS_MAP_FILE",
    .ioasNoIOMMUGetPA: "IOMMU_IOAS_NOIOMMU_GET_PA",
    .ioasUnmap: "IOMMU_IOAS_UNMAP",
    .option: "IOMMU_OPTION",
    .simFaultLogAlloc: "IOMMUFD_SIM_FAULT_LOG_ALLOC",
    .simVTdInvalidateFail: "IOMMUFD_SIM_VTD_INVALIDATE_FAIL",
    .test: "IOMMU_TEST_CMD",
    .vdeviceAlloc: "IOMMU_VDEVICE_ALLOC",
    .veventqAlloc: "IOMMU_VEVENTQ_ALLOC",
    .vfioIOAS: "IOMMU_VFIO_IOAS",
    .viommuAlloc: "IOMMU_VIOMMU_ALLOC",

    .vfioCheckExtension: "VFIO_CHECK_EXTENSION",
    .vfioGetAPIVersion: "VFIO_GET_API_VERSION",
    .vfioIOMMUBind: "VFIO_IOMMU_BIND",
    .vfioIOMMUCacheInvalidate: "VFIO_IOMMU_CACHE_INVALIDATE",
    .vfioIOMMUGetInfo: "VFIO_IOMMU_GET_INFO",
    .vfioIOMMUMapDMA: "VFIO_IOMMU_MAP_DMA",
    .vfioIOMMUPASIDRequest: "VFIO_IOMMU_PASID_REQUEST",
    .vfioIOMMUUnmapDMA: "VFIO_IOMMU_UNMAP_DMA",
    .vfioSetIOMMU: "VFIO_SET_IOMMU",
  ]

  private static let device: [IoctlNumber: String] = [
    .vfioDeviceAttachIOMMUFDPageTable: "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
    .vfioDeviceBindIOMMUFD: "VFIO_DEVICE_BIND_IOMMUFD",
    .vfioDeviceDetachIOMMUFDPageTable: "VFIO_DEVICE_DETACH_IOMMUFD_PT",
    .vfioDeviceFeature: "VFIO_DEVICE_FEATURE",
    .vfioDeviceGetInfo: "VFIO_DEVICE_GET_INFO",
    .vfioDeviceGetIRQInfo: "VFIO_DEVICE_GET_IRQ_INFO",
    .vfioDeviceGetPCIHotResetInfo: "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO",
    .vfioDeviceGetRegionInfo: "VFIO_DEVICE_GET_REGION_INFO",
    .vfioDeviceIOEventFD: "VFIO_DEVICE_IOEVENTFD",
    .vfioDevicePCIHotReset: "VFIO_DEVICE_PCI_HOT_RESET",
    .vfioDeviceReset: "VFIO_DEVICE_RESET",
    .vfioDeviceSetIRQs: "VFIO_DEVICE_SET_IRQS",
  ]
}

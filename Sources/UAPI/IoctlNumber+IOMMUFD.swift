internal import CUAPI

/// The commands of /dev/iommu, uapi/linux/iommufd.h.
extension IoctlNumber {
  package static let destroy = iommufd(IOMMUFD_CMD_DESTROY)
  package static let faultQueueAlloc = iommufd(IOMMUFD_CMD_FAULT_QUEUE_ALLOC)
  package static let getHardwareInfo = iommufd(IOMMUFD_CMD_GET_HW_INFO)
  package static let hardwareQueueAlloc = iommufd(IOMMUFD_CMD_HW_QUEUE_ALLOC)
  package static let hwptAlloc = iommufd(IOMMUFD_CMD_HWPT_ALLOC)
  package static let hwptGetDirtyBitmap = iommufd(IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP)
  package static let hwptInvalidate = iommufd(IOMMUFD_CMD_HWPT_INVALIDATE)
  package static let hwptSetDirtyTracking = iommufd(IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING)
  package static let ioasAlloc = iommufd(IOMMUFD_CMD_IOAS_ALLOC)
  package static let ioasAllowIOVAs = iommufd(IOMMUFD_CMD_IOAS_ALLOW_IOVAS)
  package static let ioasChangeProcess = iommufd(IOMMUFD_CMD_IOAS_CHANGE_PROCESS)
  package static let ioasCopy = iommufd(IOMMUFD_CMD_IOAS_COPY)
  package static let ioasIOVARanges = iommufd(IOMMUFD_CMD_IOAS_IOVA_RANGES)
  package static let ioasMap = iommufd(IOMMUFD_CMD_IOAS_MAP)
  package static let ioasMapFile = iommufd(IOMMUFD_CMD_IOAS_MAP_FILE)
  package static let ioasNoIOMMUGetPA = iommufd(IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA)
  package static let ioasUnmap = iommufd(IOMMUFD_CMD_IOAS_UNMAP)
  package static let option = iommufd(IOMMUFD_CMD_OPTION)
  package static let vdeviceAlloc = iommufd(IOMMUFD_CMD_VDEVICE_ALLOC)
  package static let veventqAlloc = iommufd(IOMMUFD_CMD_VEVENTQ_ALLOC)
  package static let vfioIOAS = iommufd(IOMMUFD_CMD_VFIO_IOAS)
  package static let viommuAlloc = iommufd(IOMMUFD_CMD_VIOMMU_ALLOC)

  /// Only where tests are allowed, uapi/iommufd_test.h.
  package static let test = io(
    type: vfioType, number: UInt8(truncatingIfNeeded: IOMMUFD_CMD_BASE + 32))

  /// Our extensions, uapi/iommufd_sim.h.
  package static let simFaultLogAlloc = iowr(
    type: vfioType, number: UInt8(truncatingIfNeeded: IOMMUFD_SIM_CMD_FAULT_LOG_ALLOC),
    size: MemoryLayout<iommufd_sim_fault_log_alloc>.size)
  package static let simVTdInvalidateFail = iowr(
    type: vfioType, number: UInt8(truncatingIfNeeded: IOMMUFD_SIM_CMD_VTD_INVALIDATE_FAIL),
    size: MemoryLayout<iommufd_sim_vtd_invalidate_fail>.size)

  private static func iommufd(_ number: Int) -> IoctlNumber {
    .io(type: vfioType, number: UInt8(truncatingIfNeeded: number))
  }
}

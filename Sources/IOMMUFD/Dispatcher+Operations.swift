internal import CUAPI
internal import UAPI

extension Dispatcher {
  /// The commands of this iommufd, alphabetical by the kernel's names. Numbers without a row are
  /// commands a kernel may lack: ENOTTY.
  static let operations: [Operation] = [
    Operation(.destroy, minimumThrough: \iommu_destroy.id, ObjectCommands.destroy),
    Operation(
      .faultQueueAlloc, minimumThrough: \iommu_fault_alloc.out_fault_fd,
      FaultQueueCommand.allocate),
    Operation(
      .getHardwareInfo, minimumThrough: \iommu_hw_info.__reserved, HardwareInfoCommand.execute),
    Operation(
      .hardwareQueueAlloc, minimumThrough: \iommu_hw_queue_alloc.length,
      VIOMMUCommands.allocateHardwareQueue),
    Operation(.hwptAlloc, minimumThrough: \iommu_hwpt_alloc.__reserved, HWPTCommands.allocate),
    Operation(
      .hwptGetDirtyBitmap, minimumThrough: \iommu_hwpt_get_dirty_bitmap.data,
      HWPTCommands.getDirtyBitmap),
    Operation(
      .hwptInvalidate, minimumThrough: \iommu_hwpt_invalidate.__reserved,
      HWPTCommands.invalidate),
    Operation(
      .hwptSetDirtyTracking, minimumThrough: \iommu_hwpt_set_dirty_tracking.__reserved,
      HWPTCommands.setDirtyTracking),
    Operation(
      .ioasAlloc, minimumThrough: \iommu_ioas_alloc.out_ioas_id, IOASCommands.allocate),
    Operation(
      .ioasAllowIOVAs, minimumThrough: \iommu_ioas_allow_iovas.allowed_iovas,
      IOASCommands.allowIOVAs),
    Operation(
      .ioasChangeProcess, minimumThrough: \iommu_ioas_change_process.__reserved,
      IOASCommands.changeProcess),
    Operation(.ioasCopy, minimumThrough: \iommu_ioas_copy.src_iova, IOASCommands.copy),
    Operation(
      .ioasIOVARanges, minimumThrough: \iommu_ioas_iova_ranges.out_iova_alignment,
      IOASCommands.iovaRanges),
    Operation(.ioasMap, minimumThrough: \iommu_ioas_map.iova, IOASCommands.map),
    Operation(.ioasMapFile, minimumThrough: \iommu_ioas_map_file.iova, IOASCommands.mapFile),
    Operation(
      .ioasNoIOMMUGetPA, minimumThrough: \iommu_ioas_noiommu_get_pa.out_phys,
      IOASCommands.noIOMMUGetPhysicalAddress),
    Operation(.ioasUnmap, minimumThrough: \iommu_ioas_unmap.length, IOASCommands.unmap),
    Operation(.option, minimumThrough: \iommu_option.val64, OptionCommands.option),
    Operation(
      .vdeviceAlloc, minimumThrough: \iommu_vdevice_alloc.virt_id,
      VIOMMUCommands.allocateDevice),
    Operation(
      .veventqAlloc, minimumThrough: \iommu_veventq_alloc.out_veventq_fd,
      VIOMMUCommands.allocateEventQueue),
    Operation(
      .vfioIOAS, minimumThrough: \iommu_vfio_ioas.__reserved, ContainerIOASCommand.execute),
    Operation(
      .viommuAlloc, minimumThrough: \iommu_viommu_alloc.out_viommu_id, VIOMMUCommands.allocate),
  ]

  /// The commands that the simulator has beside the kernel's, uapi/iommufd_sim.h.
  static let simulatorCommands: [Operation] = [
    Operation(
      .simFaultLogAlloc, minimumThrough: \iommufd_sim_fault_log_alloc.out_fd,
      FaultLogCommand.allocate)
  ]
}

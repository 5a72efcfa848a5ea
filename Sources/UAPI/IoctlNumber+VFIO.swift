/// The commands of uapi/linux/vfio.h: of a container, as an iommufd answers them, and of a device. The
/// two share numbers.
extension IoctlNumber {
  package static let vfioGetAPIVersion = vfio(0)
  package static let vfioCheckExtension = vfio(1)
  package static let vfioSetIOMMU = vfio(2)
  package static let vfioIOMMUGetInfo = vfio(12)
  package static let vfioIOMMUMapDMA = vfio(13)
  package static let vfioIOMMUUnmapDMA = vfio(14)

  /// Our extension, uapi/iommufd_sim.h.
  package static let vfioIOMMUPASIDRequest = vfio(22)
  package static let vfioIOMMUBind = vfio(23)
  package static let vfioIOMMUCacheInvalidate = vfio(24)

  package static let vfioDeviceGetInfo = vfio(7)
  package static let vfioDeviceGetRegionInfo = vfio(8)
  package static let vfioDeviceGetIRQInfo = vfio(9)
  package static let vfioDeviceSetIRQs = vfio(10)
  package static let vfioDeviceReset = vfio(11)
  package static let vfioDeviceGetPCIHotResetInfo = vfio(12)
  package static let vfioDevicePCIHotReset = vfio(13)
  package static let vfioDeviceIOEventFD = vfio(16)
  package static let vfioDeviceFeature = vfio(17)
  package static let vfioDeviceBindIOMMUFD = vfio(18)
  package static let vfioDeviceAttachIOMMUFDPageTable = vfio(19)
  package static let vfioDeviceDetachIOMMUFDPageTable = vfio(20)

  /// VFIO_BASE + `number`.
  private static func vfio(_ number: UInt8) -> IoctlNumber {
    .io(type: vfioType, number: 100 + number)
  }
}

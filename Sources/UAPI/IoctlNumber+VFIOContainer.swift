/// The container commands of uapi/linux/vfio.h that an iommufd answers. VFIO_BASE is 100.
extension IoctlNumber {
  package static let vfioGetAPIVersion = io(type: vfioType, number: 100)
  package static let vfioCheckExtension = io(type: vfioType, number: 101)
  package static let vfioSetIOMMU = io(type: vfioType, number: 102)
  package static let vfioIOMMUGetInfo = io(type: vfioType, number: 112)
  package static let vfioIOMMUMapDMA = io(type: vfioType, number: 113)
  package static let vfioIOMMUUnmapDMA = io(type: vfioType, number: 114)
}

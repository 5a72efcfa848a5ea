// VFIO's container interface on an iommufd (iommufd: vfio_compat.c), for clients written before
// iommufd. Their structs carry a size, argsz, and are read up to the last member of the first version;
// nothing beyond it is looked at. An unknown flag is EINVAL, where iommufd says EOPNOTSUPP.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

struct ContainerCommands {
  let context: Context
  let client: any Client

  /// iommufd: iommufd_vfio_ioctl(). It knows no VFIO_IOMMU_DIRTY_PAGES.
  func call(_ request: IoctlNumber, _ argument: UInt64) throws(Errno) -> Int32 {
    switch IoctlTable.iommufd[request] {
    case .vfioGetAPIVersion: return VFIO_API_VERSION
    case .vfioCheckExtension: return try checkExtension(argument)
    case .vfioSetIOMMU: try setIOMMU(argument)
    case .vfioIOMMUGetInfo: try getInfo(at: argument)
    case .vfioIOMMUMapDMA: try mapDMA(at: argument)
    case .vfioIOMMUUnmapDMA: try unmapDMA(at: argument)
    default:
      for hooks in context.hooks {
        let result = try hooks.callContainer(
          request, argument: argument, client: client, on: context)
        if let result { return result }
      }
      throw .inappropriateIOCTLForDevice
    }
    return 0
  }

  /// iommufd: iommufd_vfio_check_extension()
  private func checkExtension(_ type: UInt64) throws(Errno) -> Int32 {
    switch type {
    case UInt64(VFIO_TYPE1_IOMMU), UInt64(VFIO_TYPE1v2_IOMMU), UInt64(VFIO_UNMAP_ALL):
      return 1
    case UInt64(VFIO_DMA_CC_IOMMU):
      return try context.lock.withLock { () throws(Errno) in
        let ioas = try context.requireContainerIOAS()
        return ioas.hwpts.allSatisfy(\.enforcesCacheCoherency) ? 1 : 0
      }
    default:
      return automaticFlags(ofExtensionType: type) == nil ? 0 : 1
    }
  }

  private func automaticFlags(ofExtensionType type: UInt64) -> PagingDomainFlags? {
    for hooks in context.hooks {
      if let flags = hooks.automaticDomainFlags(ofContainerType: type) { return flags }
    }
    return nil
  }

  /// iommufd: iommufd_vfio_set_iommu(). TYPE1 may unmap within a mapping, so it must not have large
  /// pages; TYPE1v2 may not.
  private func setIOMMU(_ type: UInt64) throws(Errno) {
    let isType1 = type == UInt64(VFIO_TYPE1_IOMMU) || type == UInt64(VFIO_TYPE1v2_IOMMU)
    guard let flags = isType1 ? [] : automaticFlags(ofExtensionType: type) else {
      throw .invalidArgument
    }
    try context.lock.withLock { () throws(Errno) in
      let ioas = try context.requireContainerIOAS()
      try ioas.setAutomaticFlags(flags)
      if type == UInt64(VFIO_TYPE1_IOMMU) { try ioas.pageTable.disableLargePages() }
    }
  }

  /// iommufd: iommufd_vfio_map_dma(). No permission at all is accepted.
  private func mapDMA(at argument: UInt64) throws(Errno) {
    let minimum = Ioctl.vfioIOMMUMapDMA.minimumSize
    let map = try client.load(vfio_iommu_type1_dma_map.self, at: argument)
    let known = UInt32(VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)
    guard map.argsz >= minimum, map.flags & ~known == 0 else { throw .invalidArgument }
    var permissions: Permissions = []
    if map.flags & UInt32(VFIO_DMA_MAP_FLAG_READ) != 0 { permissions.insert(.read) }
    if map.flags & UInt32(VFIO_DMA_MAP_FLAG_WRITE) != 0 { permissions.insert(.write) }
    try context.lock.withLock { () throws(Errno) in
      let ioas = try context.requireContainerIOAS()
      _ = try ioas.pageTable.map(
        userAddress: map.vaddr, length: map.size, at: map.iova, permissions: permissions,
        accounting: context.accountMode, client: client)
    }
  }

  /// iommufd: iommufd_vfio_unmap_dma(). What was unmapped is written back also when the unmap failed
  /// half-way, but not when nothing was tried.
  private func unmapDMA(at argument: UInt64) throws(Errno) {
    let minimum = Ioctl.vfioIOMMUUnmapDMA.minimumSize
    var unmap = vfio_iommu_type1_dma_unmap()
    try client.loadBytes(of: &unmap, at: argument)
    let isAll = unmap.flags & UInt32(VFIO_DMA_UNMAP_FLAG_ALL) != 0
    let known = UInt32(VFIO_DMA_UNMAP_FLAG_ALL)
    guard unmap.argsz >= minimum, unmap.flags & ~known == 0 else { throw .invalidArgument }
    let (iova, size) = (unmap.iova, unmap.size)
    let result = try context.lock.withLock { () throws(Errno) in
      let pageTable = try context.requireContainerIOAS().pageTable
      if isAll {
        guard iova == 0, size == 0 else { throw Errno.invalidArgument }
        return pageTable.unmapAll()
      }
      if pageTable.disablesLargePages { try pageTable.cut(around: iova, length: size) }
      return pageTable.unmap(iova, length: size)
    }
    unmap.size = result.bytes
    try client.storeBytes(of: unmap, at: argument)
    if let failure = result.failure { throw failure }
  }
}

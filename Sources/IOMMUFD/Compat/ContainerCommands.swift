// SPDX-License-Identifier: Apache-2.0

// The ioctls of a VFIO container on an open /dev/iommu, for clients that were written before
// iommufd (iommufd: vfio_compat.c). Each struct begins with its size, argsz, and is read through
// the last member of its first version; what follows is ignored. An unknown flag is EINVAL, unlike
// in an iommufd command, where it is EOPNOTSUPP.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

struct ContainerCommands {
  let context: Context
  let client: any Client

  /// iommufd: iommufd_vfio_ioctl(), which has no VFIO_IOMMU_DIRTY_PAGES
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

  /// VFIO_TYPE1_IOMMU can unmap a part of a mapping, so it disables large pages. VFIO_TYPE1v2_IOMMU
  /// cannot. iommufd: iommufd_vfio_set_iommu()
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

  /// Accepts a mapping without any permission. iommufd: iommufd_vfio_map_dma()
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
      _ = try ioas.withUser { () throws(Errno) in
        try ioas.pageTable.map(
          userAddress: map.vaddr, length: map.size, at: IOVA(map.iova), permissions: permissions,
          accounting: context.accountingMode, client: client)
      }
    }
  }

  /// Writes the number of unmapped bytes back, also when the unmap failed half-way, but not when
  /// the arguments were invalid. iommufd: iommufd_vfio_unmap_dma()
  private func unmapDMA(at argument: UInt64) throws(Errno) {
    let minimum = Ioctl.vfioIOMMUUnmapDMA.minimumSize
    var unmap = vfio_iommu_type1_dma_unmap()
    try client.loadBytes(of: &unmap, at: argument)
    let isAll = unmap.flags & UInt32(VFIO_DMA_UNMAP_FLAG_ALL) != 0
    let known = UInt32(VFIO_DMA_UNMAP_FLAG_ALL)
    guard unmap.argsz >= minimum, unmap.flags & ~known == 0 else { throw .invalidArgument }
    let (iova, size) = (IOVA(unmap.iova), unmap.size)
    let result = try context.lock.withLock { () throws(Errno) in
      let ioas = try context.requireContainerIOAS()
      let pageTable = ioas.pageTable
      if isAll {
        guard iova.rawValue == 0, size == 0 else { throw Errno.invalidArgument }
        return ioas.withUser { pageTable.unmapAll() }
      }
      if pageTable.disablesLargePages { try pageTable.cut(around: iova, length: size) }
      return ioas.withUser { pageTable.unmap(iova, length: size) }
    }
    unmap.size = result.bytes
    try client.storeBytes(of: unmap, at: argument)
    if let failure = result.failure { throw failure }
  }
}

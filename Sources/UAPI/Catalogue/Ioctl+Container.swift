// SPDX-License-Identifier: Apache-2.0

// The ioctls of a VFIO container (uapi/linux/vfio.h) that an iommufd answers (iommufd:
// vfio_compat.c). Minimum sizes are those of the kernel's handlers.

internal import CUAPI

extension Ioctl {
  package static let ofContainer: [Ioctl] = [
    vfioCheckExtension, vfioGetAPIVersion, vfioIOMMUGetInfo, vfioIOMMUMapDMA, vfioIOMMUUnmapDMA,
    vfioSetIOMMU,
  ]

  package static let vfioCheckExtension = Ioctl("VFIO_CHECK_EXTENSION", .vfio(1), .container)

  package static let vfioGetAPIVersion = Ioctl("VFIO_GET_API_VERSION", .vfio(0), .container)

  package static let vfioIOMMUGetInfo = Ioctl(
    "VFIO_IOMMU_GET_INFO", .vfio(12), .container,
    minimumThrough: \vfio_iommu_type1_info.iova_pgsizes,
    flags: [
      "flags": [
        .init("VFIO_IOMMU_INFO_PGSIZES", VFIO_IOMMU_INFO_PGSIZES),
        .init("VFIO_IOMMU_INFO_CAPS", VFIO_IOMMU_INFO_CAPS),
      ]
    ])

  package static let vfioIOMMUMapDMA = Ioctl(
    "VFIO_IOMMU_MAP_DMA", .vfio(13), .container,
    minimumThrough: \vfio_iommu_type1_dma_map.size,
    flags: [
      "flags": [
        .init("VFIO_DMA_MAP_FLAG_READ", VFIO_DMA_MAP_FLAG_READ),
        .init("VFIO_DMA_MAP_FLAG_WRITE", VFIO_DMA_MAP_FLAG_WRITE),
        .init("VFIO_DMA_MAP_FLAG_VADDR", VFIO_DMA_MAP_FLAG_VADDR),
      ]
    ])

  package static let vfioIOMMUUnmapDMA = Ioctl(
    "VFIO_IOMMU_UNMAP_DMA", .vfio(14), .container,
    minimumThrough: \vfio_iommu_type1_dma_unmap.size,
    flags: [
      "flags": [
        .init("VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP", VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP),
        .init("VFIO_DMA_UNMAP_FLAG_ALL", VFIO_DMA_UNMAP_FLAG_ALL),
        .init("VFIO_DMA_UNMAP_FLAG_VADDR", VFIO_DMA_UNMAP_FLAG_VADDR),
      ]
    ])

  package static let vfioSetIOMMU = Ioctl("VFIO_SET_IOMMU", .vfio(2), .container)
}

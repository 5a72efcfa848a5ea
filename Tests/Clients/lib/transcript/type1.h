/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VFIO type1 commands on /dev/iommu, for clients that give them names of their own. The first
 * field of their structs, argsz, is the length of the caller's struct.
 */
#ifndef TYPE1_H
#define TYPE1_H

#include "transcript/transcript.h"

#include <linux/vfio.h>

#define TYPE1(type, member, kind) FIELD(struct vfio_iommu_type1_##type, member, kind)

#define TYPE1_GET_INFO_AS(name)                                                                    \
    {name, VFIO_IOMMU_GET_INFO, sizeof(struct vfio_iommu_type1_info), 16, NULL,                    \
     {TYPE1(info, flags, HEX), TYPE1(info, iova_pgsizes, HEX), TYPE1(info, cap_offset, DEC)}}

#define TYPE1_MAP_AS(name)                                                                         \
    {name, VFIO_IOMMU_MAP_DMA, sizeof(struct vfio_iommu_type1_dma_map), 32, NULL,                  \
     {TYPE1(dma_map, flags, HEX), TYPE1(dma_map, vaddr, POINTER), TYPE1(dma_map, iova, HEX),       \
      TYPE1(dma_map, size, HEX)}}

#define TYPE1_UNMAP_AS(name)                                                                       \
    {name, VFIO_IOMMU_UNMAP_DMA, sizeof(struct vfio_iommu_type1_dma_unmap), 24, NULL,              \
     {TYPE1(dma_unmap, flags, HEX), TYPE1(dma_unmap, iova, HEX), TYPE1(dma_unmap, size, HEX)}}

#endif /* TYPE1_H */

/* SPDX-License-Identifier: Apache-2.0 */
#include "arguments.h"

struct iommu_ioas_map map_arguments(uint32_t ioas, uint64_t user_va, uint64_t length,
                                    uint32_t flags, uint64_t iova)
{
    return (struct iommu_ioas_map){.size = sizeof(struct iommu_ioas_map),
                                   .flags = flags,
                                   .ioas_id = ioas,
                                   .user_va = user_va,
                                   .length = length,
                                   .iova = iova};
}

struct iommu_ioas_unmap unmap_arguments(uint32_t ioas, uint64_t iova, uint64_t length)
{
    return (struct iommu_ioas_unmap){
        .size = sizeof(struct iommu_ioas_unmap), .ioas_id = ioas, .iova = iova, .length = length};
}

struct iommu_hwpt_alloc hwpt_arguments(uint32_t device, uint32_t pt, uint32_t flags, uint32_t type,
                                       const void *data, uint32_t length, uint32_t fault)
{
    return (struct iommu_hwpt_alloc){.size = sizeof(struct iommu_hwpt_alloc),
                                     .flags = flags,
                                     .dev_id = device,
                                     .pt_id = pt,
                                     .data_type = type,
                                     .data_len = length,
                                     .data_uptr = (uintptr_t)data,
                                     .fault_id = fault};
}

struct iommu_hwpt_invalidate invalidate_arguments(uint32_t id, uint32_t type, const void *entries,
                                                  uint32_t length, uint32_t count)
{
    return (struct iommu_hwpt_invalidate){.size = sizeof(struct iommu_hwpt_invalidate),
                                          .hwpt_id = id,
                                          .data_uptr = (uintptr_t)entries,
                                          .data_type = type,
                                          .entry_len = length,
                                          .entry_num = count};
}

struct iommu_viommu_alloc viommu_arguments(uint32_t device, uint32_t hwpt, uint32_t type,
                                           void *data, uint32_t length)
{
    return (struct iommu_viommu_alloc){.size = sizeof(struct iommu_viommu_alloc),
                                       .type = type,
                                       .dev_id = device,
                                       .hwpt_id = hwpt,
                                       .data_len = length,
                                       .data_uptr = (uintptr_t)data};
}

struct iommu_vdevice_alloc vdevice_arguments(uint32_t viommu, uint32_t device, uint64_t virt_id)
{
    return (struct iommu_vdevice_alloc){.size = sizeof(struct iommu_vdevice_alloc),
                                        .viommu_id = viommu,
                                        .dev_id = device,
                                        .virt_id = virt_id};
}

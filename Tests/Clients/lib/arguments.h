/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Argument structs of iommufd commands, for the clients that print what a call has changed and for
 * those that check its result.
 */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include <stdint.h>

#include <linux/iommufd.h>

struct iommu_ioas_map map_arguments(uint32_t ioas, uint64_t user_va, uint64_t length,
                                    uint32_t flags, uint64_t iova);

struct iommu_ioas_unmap unmap_arguments(uint32_t ioas, uint64_t iova, uint64_t length);

/**
 * `pt` is an IOAS, a nesting parent or a vIOMMU; `data`, of `length` bytes, is a struct of data
 * type `type`.
 */
struct iommu_hwpt_alloc hwpt_arguments(uint32_t device, uint32_t pt, uint32_t flags, uint32_t type,
                                       const void *data, uint32_t length, uint32_t fault);

/** `count` entries of `length` bytes each. */
struct iommu_hwpt_invalidate invalidate_arguments(uint32_t id, uint32_t type, const void *entries,
                                                  uint32_t length, uint32_t count);

struct iommu_viommu_alloc viommu_arguments(uint32_t device, uint32_t hwpt, uint32_t type,
                                           void *data, uint32_t length);

struct iommu_vdevice_alloc vdevice_arguments(uint32_t viommu, uint32_t device, uint64_t virt_id);

#endif /* ARGUMENTS_H */

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared virtual addressing on a VFIO container, an extension: a guest with two page tables that
 * are bound to PASIDs, two devices, and the commands that bind a table and invalidate caches. The
 * functions that issue a command return the ioctl's result.
 */
#ifndef SVA_H
#define SVA_H

#include "guest/vtd.h"
#include "vfio/pasids.h"

#define IOVA 0x7000000000UL

extern struct guest guest;
extern struct test_device device, plain; /* with and without a device TLB */
extern uint64_t roots[2];                /* the guest's page tables */
extern uint32_t pasids[2];               /* a PASID for each of them */

/** Makes the guest and its page tables, binds the devices and allocates the PASIDs. */
void set_up_sva(void);

/** Attaches the devices, and STAGING_PASID of each, to the container's IOAS. */
void attach_devices(void);

long set_container(uint16_t op);

/* ---- binding ------------------------------------------------------------------------------ */

struct iommu_gpasid_bind_data table_data(uint32_t pasid, uint64_t root);

long bind_as(uint32_t argsz, uint32_t flags, struct iommu_gpasid_bind_data data);

long bind_data(struct iommu_gpasid_bind_data data);

long bind_table(uint32_t pasid, uint64_t root);

long unbind(uint32_t pasid);

/* ---- invalidation ------------------------------------------------------------------------- */

struct iommu_cache_invalidate_info by_domain(uint8_t cache);

struct iommu_cache_invalidate_info by_pasid(uint8_t cache, uint32_t pasid);

struct iommu_cache_invalidate_info by_address(uint8_t cache, uint32_t pasid, uint64_t iova,
                                              uint64_t size, uint64_t count, uint32_t flags);

long cache_invalidate_as(uint32_t argsz, uint32_t flags, struct iommu_cache_invalidate_info info);

long cache_invalidate(struct iommu_cache_invalidate_info info);

/* ---- DMA ---------------------------------------------------------------------------------- */

bool can_read(const struct test_device *by, uint32_t pasid, uint64_t iova);

/** Returns the byte at `iova`, or more than 0xff when the device cannot read it. */
uint64_t read_byte_by_pasid(const struct test_device *by, uint32_t pasid, uint64_t iova);

/** Checks that `call` fails with `error` for a copy of `good` that has one member changed. */
#define CHECK_CHANGED(call, good, change, error, ...)                                              \
    do {                                                                                           \
        __typeof__(good) changed_ = good;                                                          \
        changed_ change;                                                                           \
        check_errno(call(changed_), error, __VA_ARGS__);                                           \
    } while (0)

#endif /* SVA_H */

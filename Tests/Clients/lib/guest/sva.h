/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest whose tables are bound to PASIDs of a VFIO container: its devices, two tables with the same
 * addresses, and the commands that bind and invalidate.
 */
#ifndef SVA_H
#define SVA_H

#include "vfio/pasids.h"
#include "guest/vtd.h"

#define IOVA 0x7000000000UL

static struct guest guest;
static struct test_device device, plain; /* with and without a device TLB */
static uint64_t roots[2];
static uint32_t pasids[2];

/** The guest with its tables, two devices, and a PASID for each table. */
static inline void make_all(void)
{
    int iommufd = open_iommufd();

    device = find_device(iommufd, true);
    plain = find_device(iommufd, false);
    guest = make_guest_memory(iommufd, true, false);
    guest.staging = STAGING_PASID;
    for (unsigned t = 0; t != 2; t++) {
        roots[t] = make_table(&guest);
        if (allocate(iommufd, 1, LAST_PASID, &pasids[t]))
            give_up("no PASID: %s", strerror(errno));
    }
}

static inline struct iommu_gpasid_bind_data table_data(uint32_t pasid, uint64_t root)
{
    return (struct iommu_gpasid_bind_data){.argsz = sizeof(struct iommu_gpasid_bind_data),
                                           .version = IOMMU_GPASID_BIND_VERSION_1,
                                           .format = IOMMU_PASID_FORMAT_INTEL_VTD,
                                           .addr_width = 48,
                                           .gpgd = root,
                                           .hpasid = pasid};
}

static inline long bind_as(uint32_t argsz, uint32_t flags, struct iommu_gpasid_bind_data data)
{
    struct {
        struct vfio_iommu_type1_bind head;
        struct iommu_gpasid_bind_data data;
    } __attribute__((packed)) cmd = {{.argsz = argsz, .flags = flags}, data};

    return ioctl(guest.iommufd, VFIO_IOMMU_BIND, &cmd);
}

static inline long bind_data(struct iommu_gpasid_bind_data data)
{
    return bind_as(8 + sizeof(data), VFIO_IOMMU_BIND_GUEST_PGTBL, data);
}

static inline long bind_table(uint32_t pasid, uint64_t root) { return bind_data(table_data(pasid, root)); }

static inline long unbind(uint32_t pasid)
{
    return bind_as(8 + sizeof(struct iommu_gpasid_bind_data), VFIO_IOMMU_UNBIND_GUEST_PGTBL,
                   table_data(pasid, 0));
}

static inline long set_container(uint16_t op)
{
    struct iommu_vfio_ioas cmd = {.size = sizeof(cmd), .ioas_id = guest.ioas, .op = op};

    return ioctl(guest.iommufd, IOMMU_VFIO_IOAS, &cmd);
}

static inline long invalidate_as(uint32_t argsz, uint32_t flags,
                                 struct iommu_cache_invalidate_info info)
{
    struct vfio_iommu_type1_cache_invalidate cmd = {
        .argsz = argsz, .flags = flags, .cache_info = info};

    return ioctl(guest.iommufd, VFIO_IOMMU_CACHE_INVALIDATE, &cmd);
}

static inline long invalidate_info(struct iommu_cache_invalidate_info info)
{
    return invalidate_as(8 + sizeof(info), 0, info);
}

static inline struct iommu_cache_invalidate_info everything(uint8_t cache)
{
    return (struct iommu_cache_invalidate_info){.argsz = 16,
                                                .version = IOMMU_CACHE_INVALIDATE_INFO_VERSION_1,
                                                .cache = cache,
                                                .granularity = IOMMU_INV_GRANU_DOMAIN};
}

static inline struct iommu_cache_invalidate_info by_pasid(uint8_t cache, uint32_t pasid)
{
    struct iommu_cache_invalidate_info info = everything(cache);

    info.argsz = sizeof(info);
    info.granularity = IOMMU_INV_GRANU_PASID;
    info.granu.pasid_info =
        (struct iommu_inv_pasid_info){.flags = IOMMU_INV_PASID_FLAGS_PASID, .pasid = pasid};
    return info;
}

static inline struct iommu_cache_invalidate_info by_address(uint8_t cache, uint32_t pasid,
                                                            uint64_t iova, uint64_t size,
                                                            uint64_t count, uint32_t flags)
{
    struct iommu_cache_invalidate_info info = everything(cache);

    info.argsz = sizeof(info);
    info.granularity = IOMMU_INV_GRANU_ADDR;
    info.granu.addr_info = (struct iommu_inv_addr_info){.flags = flags,
                                                        .pasid = pasid,
                                                        .addr = iova,
                                                        .granule_size = size,
                                                        .nb_granules = count};
    return info;
}

/** The devices go through the container's table, and by PASID to look at what they have read. */
static inline void attach_all(void)
{
    if (attach_to(&device, guest.ioas, NO_PASID) || attach_to(&plain, guest.ioas, NO_PASID) ||
        attach_to(&device, guest.ioas, STAGING_PASID) ||
        attach_to(&plain, guest.ioas, STAGING_PASID))
        give_up("attach: %s", strerror(errno));
}

static inline bool reads(const struct test_device *by, uint32_t pasid, uint64_t iova)
{
    return fetch(by, iova, 8, PASID(pasid)) == COMPLETED;
}

static inline uint64_t byte_at(const struct test_device *by, uint32_t pasid, uint64_t iova)
{
    return read_byte(&guest, by, iova, PASID(pasid));
}

/** Has `call` refuse `good` with a change made to it. */
#define CHECK_CHANGED(call, good, change, error, ...)                                              \
    do {                                                                                           \
        __typeof__(good) changed_ = good;                                                          \
        changed_ change;                                                                           \
        check_errno(call(changed_), error, __VA_ARGS__);                                           \
    } while (0)

#endif /* SVA_H */

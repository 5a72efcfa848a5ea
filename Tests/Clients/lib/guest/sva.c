/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/sva.h"

struct guest guest;
struct test_device device, plain;
uint64_t roots[2];
uint32_t pasids[2];

void set_up_sva(void)
{
    int iommufd = open_iommufd();

    device = vtd_find_device(iommufd, true);
    plain = vtd_find_device(iommufd, false);
    guest = make_guest_memory(iommufd, true, false);
    guest.staging = STAGING_PASID;
    for (unsigned t = 0; t != 2; t++) {
        roots[t] = allocate_table(&guest);
        if (allocate_pasid(iommufd, 1, LAST_PASID, &pasids[t]))
            fatal("no PASID: %s", strerror(errno));
    }
}

struct iommu_gpasid_bind_data table_data(uint32_t pasid, uint64_t root)
{
    return (struct iommu_gpasid_bind_data){.argsz = sizeof(struct iommu_gpasid_bind_data),
                                           .version = IOMMU_GPASID_BIND_VERSION_1,
                                           .format = IOMMU_PASID_FORMAT_INTEL_VTD,
                                           .addr_width = 48,
                                           .gpgd = root,
                                           .hpasid = pasid};
}

long bind_as(uint32_t argsz, uint32_t flags, struct iommu_gpasid_bind_data data)
{
    struct {
        struct vfio_iommu_type1_bind head;
        struct iommu_gpasid_bind_data data;
    } __attribute__((packed)) cmd = {{.argsz = argsz, .flags = flags}, data};

    return ioctl(guest.iommufd, VFIO_IOMMU_BIND, &cmd);
}

long bind_data(struct iommu_gpasid_bind_data data)
{
    return bind_as(8 + sizeof(data), VFIO_IOMMU_BIND_GUEST_PGTBL, data);
}

long bind_table(uint32_t pasid, uint64_t root)
{
    return bind_data(table_data(pasid, root));
}

long unbind(uint32_t pasid)
{
    return bind_as(8 + sizeof(struct iommu_gpasid_bind_data), VFIO_IOMMU_UNBIND_GUEST_PGTBL,
                   table_data(pasid, 0));
}

long set_container(uint16_t op)
{
    struct iommu_vfio_ioas cmd = {.size = sizeof(cmd), .ioas_id = guest.ioas, .op = op};

    return ioctl(guest.iommufd, IOMMU_VFIO_IOAS, &cmd);
}

long cache_invalidate_as(uint32_t argsz, uint32_t flags, struct iommu_cache_invalidate_info info)
{
    struct vfio_iommu_type1_cache_invalidate cmd = {
        .argsz = argsz, .flags = flags, .cache_info = info};

    return ioctl(guest.iommufd, VFIO_IOMMU_CACHE_INVALIDATE, &cmd);
}

long cache_invalidate(struct iommu_cache_invalidate_info info)
{
    return cache_invalidate_as(8 + sizeof(info), 0, info);
}

struct iommu_cache_invalidate_info by_domain(uint8_t cache)
{
    return (struct iommu_cache_invalidate_info){.argsz = 16,
                                                .version = IOMMU_CACHE_INVALIDATE_INFO_VERSION_1,
                                                .cache = cache,
                                                .granularity = IOMMU_INV_GRANU_DOMAIN};
}

struct iommu_cache_invalidate_info by_pasid(uint8_t cache, uint32_t pasid)
{
    struct iommu_cache_invalidate_info info = by_domain(cache);

    info.argsz = sizeof(info);
    info.granularity = IOMMU_INV_GRANU_PASID;
    info.granu.pasid_info =
        (struct iommu_inv_pasid_info){.flags = IOMMU_INV_PASID_FLAGS_PASID, .pasid = pasid};
    return info;
}

struct iommu_cache_invalidate_info by_address(uint8_t cache, uint32_t pasid, uint64_t iova,
                                              uint64_t size, uint64_t count, uint32_t flags)
{
    struct iommu_cache_invalidate_info info = by_domain(cache);

    info.argsz = sizeof(info);
    info.granularity = IOMMU_INV_GRANU_ADDR;
    info.granu.addr_info = (struct iommu_inv_addr_info){.flags = flags,
                                                        .pasid = pasid,
                                                        .addr = iova,
                                                        .granule_size = size,
                                                        .nb_granules = count};
    return info;
}

void attach_devices(void)
{
    if (attach_to(&device, guest.ioas, NO_PASID) || attach_to(&plain, guest.ioas, NO_PASID) ||
        attach_to(&device, guest.ioas, STAGING_PASID) ||
        attach_to(&plain, guest.ioas, STAGING_PASID))
        fatal("attach: %s", strerror(errno));
}

bool can_read(const struct test_device *by, uint32_t pasid, uint64_t iova)
{
    return dma_read(by, iova, 8, PASID(pasid)) == COMPLETED;
}

uint64_t read_byte_by_pasid(const struct test_device *by, uint32_t pasid, uint64_t iova)
{
    return read_byte(&guest, by, iova, PASID(pasid));
}

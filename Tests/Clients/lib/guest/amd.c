/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/amd.h"

struct iommu_hwpt_amd_guest guest_dte(uint64_t gcr3, uint16_t domain, uint64_t more)
{
    return (struct iommu_hwpt_amd_guest){
        {DTE_V | DTE_TV | DTE_GV | more | (gcr3 >> 12 & 7) << 58,
         domain | (gcr3 >> 15 & 0xffff) << 16 | (gcr3 >> 31 & 0x1fffff) << 43, 0, 0}};
}

long amd_allocate_viommu(int iommufd, uint32_t device, uint32_t parent, uint32_t type,
                         uint32_t *viommu)
{
    struct iommu_viommu_alloc cmd = viommu_arguments(device, parent, type, NULL, 0);
    long result = ioctl(iommufd, IOMMU_VIOMMU_ALLOC, &cmd);

    if (!result && viommu)
        *viommu = cmd.out_viommu_id;
    return result;
}

uint32_t amd_make_nested(const struct guest *guest, const struct test_device *device,
                         struct iommu_hwpt_amd_guest data)
{
    uint32_t hwpt;

    if (allocate_hwpt(guest->iommufd, device->id, guest->viommu, 0, IOMMU_HWPT_DATA_AMD_GUEST,
                      &data, sizeof(data), 0, &hwpt))
        fatal("HWPT_ALLOC of a nested table: %s", strerror(errno));
    return hwpt;
}

bool is_behind_amd(int iommufd, const struct test_device *device)
{
    struct iommu_hw_info_amd amd = {0};
    struct iommu_hw_info info;

    return !hardware_info(iommufd, device->id, &amd, sizeof(amd), &info) &&
           info.out_data_type == IOMMU_HW_INFO_TYPE_AMD;
}

struct test_device amd_find_device(int iommufd)
{
    struct test_device device;

    if (!find_wanted_device(iommufd, &device, is_behind_amd))
        fatal("no device behind an AMD-Vi unit");
    return device;
}

struct guest amd_make_guest(int iommufd, const struct test_device *device, bool shared)
{
    struct guest guest = make_guest_memory(iommufd, shared, false);

    guest.staging = NO_PASID;
    guest.parent = allocate_paging(&guest, device, IOMMU_HWPT_ALLOC_NEST_PARENT);
    if (amd_allocate_viommu(iommufd, device->id, guest.parent, 1, &guest.viommu))
        fatal("VIOMMU_ALLOC: %s", strerror(errno));
    return guest;
}

void amd_flush_caches(const struct guest *guest)
{
    struct iommu_ioas_map map = map_arguments(guest->ioas, (uintptr_t)guest->memory, PAGE,
                                              MAP_FLAGS & ~IOMMU_IOAS_MAP_WRITEABLE, SPARE);
    struct iommu_ioas_unmap unmap = unmap_arguments(guest->ioas, SPARE, PAGE);

    if (ioctl(guest->iommufd, IOMMU_IOAS_MAP, &map) ||
        ioctl(guest->iommufd, IOMMU_IOAS_UNMAP, &unmap))
        fatal("a spare page: %s", strerror(errno));
}

void amd_check_event(const struct test_device *device, unsigned code, unsigned flags,
                     uint64_t address, uint64_t iova, uint32_t attributes, const char *what)
{
    struct iommufd_sim_fault fault = {0};
    uint64_t low = (uint64_t)code << 60 | (uint64_t)(flags & 0xfff) << 48;
    uint64_t domain, pasid = attributes & WITH_PASID ? attributes & 0xfffff : 0;

    if (!read_fault(device, &fault)) {
        check_number(0, code, "%s", what);
        return;
    }
    if (!check_number(fault.reason, code, "%s", what))
        return;
    low |= fault.requester;
    domain = fault.raw[0] & 0xffff00000000UL;
    if (flags & EV_GN)
        low |= (pasid & 0xffff) << 32 | (pasid >> 16) << 16;
    else if (code == IO_PAGE_FAULT && !(flags & DETACHED))
        low |= domain ? domain : 1UL << 32;
    if (fault.raw[0] != low)
        check_number(fault.raw[0], low, "%s: the record", what);
    if (fault.raw[1] != address || fault.iova != iova || fault.raw[2] || fault.raw[3] ||
        fault.dev_id != device->id)
        check_number(fault.raw[1], address, "%s: the record's address", what);
    if (drain_faults(device))
        check_number(1, 0, "%s: one event only", what);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest on an AMD-Vi unit: GCR3 tables in its memory, device table entries, and the event log entries
 * that the unit writes when it refuses (AMD 48882).
 */
#ifndef AMD_H
#define AMD_H

#include "guest/guest.h"

/** A guest physical address, mapped and unmapped to have the unit forget what it has cached. */
#define SPARE 0x80000000UL

/** Device table entries, first word. */
#define DTE_V (1UL << 0)
#define DTE_TV (1UL << 1)
#define DTE_PPR (1UL << 52)
#define DTE_GIOV (1UL << 54)
#define DTE_GV (1UL << 55)
#define DTE_GLX(levels) ((uint64_t)(levels) << 56)
/** The second word. */
#define DTE_I (1UL << 32)

/** Event codes. */
enum { IO_PAGE_FAULT = 2, INVALID_DEVICE_REQUEST = 8 };

/** Flags of events, from bit 48 of the first word on. */
enum { EV_GN = 1 << 0, EV_NX = 1 << 1, EV_US = 1 << 2, EV_PR = 1 << 4, EV_RW = 1 << 5,
       EV_PE = 1 << 6, EV_RZ = 1 << 7 };
/** No flag of the record's: the device has no table, and so no domain. */
enum { DETACHED = 1 << 16 };

/** The device table entry of a guest: V, TV and GV, with a GCR3 table. */
static inline struct iommu_hwpt_amd_guest guest_dte(uint64_t gcr3, uint16_t domain, uint64_t more)
{
    return (struct iommu_hwpt_amd_guest){
        {DTE_V | DTE_TV | DTE_GV | more | (gcr3 >> 12 & 7) << 58,
         domain | (gcr3 >> 15 & 0xffff) << 16 | (gcr3 >> 31 & 0x1fffff) << 43, 0, 0}};
}

/* ---- objects ------------------------------------------------------------------------------ */

static inline long allocate_viommu(int iommufd, uint32_t device, uint32_t parent, uint32_t type,
                                   uint32_t *viommu)
{
    struct iommu_viommu_alloc cmd = viommu_arguments(device, parent, type, NULL, 0);
    long result = ioctl(iommufd, IOMMU_VIOMMU_ALLOC, &cmd);

    if (!result && viommu)
        *viommu = cmd.out_viommu_id;
    return result;
}

static inline uint32_t make_nested(const struct guest *guest, const struct test_device *device,
                                   struct iommu_hwpt_amd_guest data)
{
    uint32_t hwpt;

    if (allocate_hwpt(guest->iommufd, device->id, guest->viommu, 0, IOMMU_HWPT_DATA_AMD_GUEST,
                      &data, sizeof(data), 0, &hwpt))
        give_up("HWPT_ALLOC of a nested table: %s", strerror(errno));
    return hwpt;
}

static inline bool is_behind_amd(int iommufd, const struct test_device *device)
{
    struct iommu_hw_info_amd amd = {0};
    struct iommu_hw_info info;

    return !hardware_info(iommufd, device->id, &amd, sizeof(amd), &info) &&
           info.out_data_type == IOMMU_HW_INFO_TYPE_AMD;
}

/** Finds and binds the first device behind an AMD-Vi unit that is not bound yet. */
static inline struct test_device find_device(int iommufd)
{
    struct test_device device;

    if (!find_wanted_device(iommufd, &device, is_behind_amd))
        give_up("no device behind an AMD-Vi unit");
    return device;
}

/** A guest's memory, a table of it that can be nested on, and a slice of the unit. The device knows guest
 *  physical addresses in requests without PASID. */
static inline struct guest make_guest(int iommufd, const struct test_device *device, bool shared)
{
    struct guest guest = make_guest_memory(iommufd, shared, false);

    guest.staging = NO_PASID;
    guest.parent = make_paging(&guest, device, IOMMU_HWPT_ALLOC_NEST_PARENT);
    if (allocate_viommu(iommufd, device->id, guest.parent, 1, &guest.viommu))
        give_up("VIOMMU_ALLOC: %s", strerror(errno));
    return guest;
}

/** Has the unit forget what it has cached for the guest: something of the host's table goes. */
static inline void forget(const struct guest *guest)
{
    struct iommu_ioas_map map = map_arguments(guest->ioas, (uintptr_t)guest->memory, PAGE,
                                              MAP_FLAGS & ~IOMMU_IOAS_MAP_WRITEABLE, SPARE);
    struct iommu_ioas_unmap unmap = unmap_arguments(guest->ioas, SPARE, PAGE);

    if (ioctl(guest->iommufd, IOMMU_IOAS_MAP, &map) ||
        ioctl(guest->iommufd, IOMMU_IOAS_UNMAP, &unmap))
        give_up("a spare page: %s", strerror(errno));
}

/* ---- events ------------------------------------------------------------------------------- */

/** The one event since the last: its code, flags and address, and whose it is. GN: the PASID of the request;
 *  without: a domain id, which only the host knows, but which is not 0 unless the device is detached. */
static inline void check_event(const struct test_device *device, unsigned code, unsigned flags,
                               uint64_t address, uint64_t iova, uint32_t attributes,
                               const char *what)
{
    struct iommufd_sim_fault fault = {0};
    uint64_t low = (uint64_t)code << 60 | (uint64_t)(flags & 0xfff) << 48;
    uint64_t domain, pasid = attributes & WITH_PASID ? attributes & 0xfffff : 0;

    if (!take_fault(device, &fault)) {
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
    if (drop_faults(device))
        check_number(1, 0, "%s: one event only", what);
}

#endif /* AMD_H */

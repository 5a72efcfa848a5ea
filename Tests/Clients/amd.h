/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest on an AMD-Vi unit: its memory, guest page tables and GCR3 tables in it, device table entries, and
 * the event log entries that the unit writes when it refuses (AMD 48882).
 *
 *   guest physical   what it is
 *   GUEST + 0        pages for tables, handed out upwards
 *   GUEST + DATA     pages of data; page n is filled with the byte n + 1
 *   GUEST + STAGING  where the device's buffer is brought to be looked at
 *   SPARE            mapped and unmapped to have the unit forget what it has cached
 */
#ifndef AMD_H
#define AMD_H

#include "test_device.h"

#define GUEST 0x40000000UL
#define DATA 0x400000UL
#define STAGING 0x7ff000UL
#define GUEST_LENGTH 0x800000UL
#define SPARE 0x80000000UL
#define DATA_PAGES 16

/** Guest page-table entries. */
enum { P = 1 << 0, RW = 1 << 1, US = 1 << 2, A = 1 << 5, D = 1 << 6, PS = 1 << 7 };
#define USER (P | RW | US)

/** Device table entries, first word. */
#define DTE_V (1UL << 0)
#define DTE_TV (1UL << 1)
#define DTE_GIOV (1UL << 54)
#define DTE_GV (1UL << 55)
#define DTE_GLX(levels) ((uint64_t)(levels) << 56)

/** Event codes. */
enum { IO_PAGE_FAULT = 2, INVALID_DEVICE_REQUEST = 8 };

/** Flags of events, from bit 48 of the first word on. */
enum { EV_GN = 1 << 0, EV_NX = 1 << 1, EV_US = 1 << 2, EV_PR = 1 << 4, EV_RW = 1 << 5,
       EV_PE = 1 << 6, EV_RZ = 1 << 7 };

struct guest {
    int iommufd;
    uint32_t ioas, parent, viommu;
    unsigned char *memory;
    uint64_t next_table;
};

static inline uint64_t *guest_word(const struct guest *guest, uint64_t physical)
{
    if (physical < GUEST || physical >= GUEST + GUEST_LENGTH)
        give_up("%#llx is outside of the guest", (unsigned long long)physical);
    return (uint64_t *)(guest->memory + (physical - GUEST));
}

static inline uint64_t data_page(unsigned number) { return GUEST + DATA + number * PAGE; }

/** A zeroed table. */
static inline uint64_t make_table(struct guest *guest)
{
    uint64_t table = guest->next_table;

    guest->next_table += PAGE;
    if (table + PAGE > GUEST + DATA)
        give_up("no memory for tables");
    memset(guest_word(guest, table), 0, PAGE);
    return table;
}

/** The entry for `address` in the table of four levels that is `level` above pages; tables on the way
 *  are made. */
static inline uint64_t *entry_at(struct guest *guest, uint64_t root, uint64_t address,
                                 unsigned level)
{
    uint64_t table = root;

    for (unsigned at = 3;; at--) {
        uint64_t *entry = guest_word(guest, table) + (address >> (12 + 9 * at) & 511);

        if (at == level)
            return entry;
        if (!(*entry & P))
            *entry = make_table(guest) | USER;
        table = *entry & 0xffffffffff000UL;
    }
}

static inline void map_page(struct guest *guest, uint64_t root, uint64_t address,
                            uint64_t physical, uint64_t flags)
{
    *entry_at(guest, root, address, 0) = physical | flags;
}

/** The device table entry of a guest: V, TV and GV, with a GCR3 table. */
static inline struct iommu_hwpt_amd_guest guest_dte(uint64_t gcr3, uint16_t domain, uint64_t more)
{
    return (struct iommu_hwpt_amd_guest){
        {DTE_V | DTE_TV | DTE_GV | more | (gcr3 >> 12 & 7) << 58,
         domain | (gcr3 >> 15 & 0xffff) << 16 | (gcr3 >> 31 & 0x1fffff) << 43, 0, 0}};
}

/* ---- objects ------------------------------------------------------------------------------ */

static inline long allocate_hwpt(int iommufd, uint32_t device, uint32_t pt, uint32_t flags,
                                 uint32_t type, const void *data, uint32_t length, uint32_t *hwpt)
{
    struct iommu_hwpt_alloc cmd = {.size = sizeof(cmd),
                                   .flags = flags,
                                   .dev_id = device,
                                   .pt_id = pt,
                                   .data_type = type,
                                   .data_len = length,
                                   .data_uptr = (uintptr_t)data};
    long result = ioctl(iommufd, IOMMU_HWPT_ALLOC, &cmd);

    if (!result && hwpt)
        *hwpt = cmd.out_hwpt_id;
    return result;
}

static inline long allocate_viommu(int iommufd, uint32_t device, uint32_t parent, uint32_t type,
                                   uint32_t *viommu)
{
    struct iommu_viommu_alloc cmd = {
        .size = sizeof(cmd), .type = type, .dev_id = device, .hwpt_id = parent};
    long result = ioctl(iommufd, IOMMU_VIOMMU_ALLOC, &cmd);

    if (!result && viommu)
        *viommu = cmd.out_viommu_id;
    return result;
}

static inline long destroy_object(int iommufd, uint32_t id)
{
    struct iommu_destroy cmd = {.size = sizeof(cmd), .id = id};

    return ioctl(iommufd, IOMMU_DESTROY, &cmd);
}

static inline uint32_t make_nested(const struct guest *guest, const struct test_device *device,
                                   struct iommu_hwpt_amd_guest data)
{
    uint32_t hwpt;

    if (allocate_hwpt(guest->iommufd, device->id, guest->viommu, 0, IOMMU_HWPT_DATA_AMD_GUEST,
                      &data, sizeof(data), &hwpt))
        give_up("HWPT_ALLOC of a nested table: %s", strerror(errno));
    return hwpt;
}

static inline long hardware_info(int iommufd, uint32_t device, struct iommu_hw_info_amd *amd,
                                 struct iommu_hw_info *info)
{
    *info = (struct iommu_hw_info){.size = sizeof(*info),
                                   .dev_id = device,
                                   .data_len = sizeof(*amd),
                                   .data_uptr = (uintptr_t)amd};
    return ioctl(iommufd, IOMMU_GET_HW_INFO, info);
}

/** Finds and binds the first device behind an AMD-Vi unit that is not bound yet. */
static inline struct test_device find_device(int iommufd)
{
    for (int index = 0; index < 64; index++) {
        struct iommu_hw_info_amd amd = {0};
        struct iommu_hw_info info;
        struct test_device device;
        int fd = open_node(index);

        if (fd < 0)
            continue;
        if (bind_device(iommufd, fd, index, &device)) {
            if (!hardware_info(iommufd, device.id, &amd, &info) &&
                info.out_data_type == IOMMU_HW_INFO_TYPE_AMD)
                return device;
            close(device.faults);
        }
        close(fd);
    }
    give_up("no device behind an AMD-Vi unit");
    abort();
}

/** The guest's memory, mapped, of a memfd or private; a table of it that can be nested on, and a slice of
 *  the unit. */
static inline struct guest make_guest(int iommufd, const struct test_device *device, bool shared)
{
    struct guest guest = {.iommufd = iommufd, .next_table = GUEST};
    struct iommu_ioas_alloc ioas = {.size = sizeof(ioas)};
    struct iommu_ioas_map map = {.size = sizeof(map),
                                 .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
                                          IOMMU_IOAS_MAP_WRITEABLE,
                                 .length = GUEST_LENGTH,
                                 .iova = GUEST};
    int memory = shared ? memfd_create("guest", MFD_CLOEXEC) : -1;

    if (shared && (memory < 0 || ftruncate(memory, GUEST_LENGTH)))
        give_up("no memory for a guest: %s", strerror(errno));
    guest.memory = mmap(NULL, GUEST_LENGTH, PROT_READ | PROT_WRITE,
                        shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, memory, 0);
    if (guest.memory == MAP_FAILED || ioctl(iommufd, IOMMU_IOAS_ALLOC, &ioas))
        give_up("no memory for a guest: %s", strerror(errno));
    guest.ioas = map.ioas_id = ioas.out_ioas_id;
    map.user_va = (uintptr_t)guest.memory;
    if (ioctl(iommufd, IOMMU_IOAS_MAP, &map))
        give_up("IOAS_MAP: %s", strerror(errno));
    if (allocate_hwpt(iommufd, device->id, guest.ioas, IOMMU_HWPT_ALLOC_NEST_PARENT, 0, NULL, 0,
                      &guest.parent) ||
        allocate_viommu(iommufd, device->id, guest.parent, 1, &guest.viommu))
        give_up("a guest's objects: %s", strerror(errno));
    for (unsigned i = 0; i != DATA_PAGES; i++)
        memset(guest_word(&guest, data_page(i)), (int)i + 1, PAGE);
    return guest;
}

/** Has the unit forget what it has cached for the guest: something of the host's table goes. */
static inline void forget(const struct guest *guest)
{
    struct iommu_ioas_map map = {.size = sizeof(map),
                                 .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE,
                                 .ioas_id = guest->ioas,
                                 .user_va = (uintptr_t)guest->memory,
                                 .length = PAGE,
                                 .iova = SPARE};
    struct iommu_ioas_unmap unmap = {
        .size = sizeof(unmap), .ioas_id = guest->ioas, .iova = SPARE, .length = PAGE};

    if (ioctl(guest->iommufd, IOMMU_IOAS_MAP, &map) ||
        ioctl(guest->iommufd, IOMMU_IOAS_UNMAP, &unmap))
        give_up("a spare page: %s", strerror(errno));
}

/* ---- data and events ---------------------------------------------------------------------- */

/**
 * The first byte that the device reads at `iova`; a status above 0x100 when it reads none. Its buffer is
 * brought to memory without PASID, where the guest's physical addresses are known.
 */
static inline uint64_t read_byte(const struct guest *guest, const struct test_device *device,
                                 uint64_t iova, uint32_t attributes)
{
    uint32_t status = fetch(device, iova, 8, attributes);

    if (status != COMPLETED)
        return 0x100u + status;
    if (store(device, GUEST + STAGING, 8, NO_PASID) != COMPLETED)
        give_up("the device's buffer cannot be looked at");
    return *guest_word(guest, GUEST + STAGING) & 0xff;
}

/** The one event since the last: its code, flags and address, and whose it is. GN: the PASID of the request;
 *  without: a domain id, which only the host knows, but which is not 0. */
static inline void check_event(const struct test_device *device, unsigned code, unsigned flags,
                               uint64_t address, uint64_t iova, uint32_t attributes,
                               const char *what)
{
    struct iommufd_sim_fault fault = {0};
    uint64_t low = (uint64_t)code << 60 | (uint64_t)flags << 48;
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
    else if (code == IO_PAGE_FAULT && domain)
        low |= domain;
    if (fault.raw[0] != low)
        check_number(fault.raw[0], low, "%s: the record", what);
    if (fault.raw[1] != address || fault.iova != iova || fault.raw[2] || fault.raw[3] ||
        fault.dev_id != device->id)
        check_number(fault.raw[1], address, "%s: the record's address", what);
    if (drop_faults(device))
        check_number(1, 0, "%s: one event only", what);
}

#endif /* AMD_H */

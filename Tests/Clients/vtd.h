/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest on a VT-d unit: its memory, its first-stage tables in that memory, the nested page tables made
 * of them, and what the unit records when it refuses.
 *
 *   guest physical   what it is
 *   GUEST + 0        pages for tables, handed out upwards
 *   GUEST + DATA     pages of data; page n is filled with the byte n + 1
 *   GUEST + STAGING  where the device's buffer is brought to be looked at, by a PASID of its own that
 *                    knows guest physical addresses
 */
#ifndef VTD_H
#define VTD_H

#include "test_device.h"

#define GUEST 0x40000000UL
#define DATA 0x400000UL
#define STAGING 0x7ff000UL
#define GUEST_LENGTH 0x800000UL
#define DATA_PAGES 16

/** The PASID of the device that knows guest physical addresses. */
#define STAGING_PASID PASID(0x3ff)

/** First-stage entries. */
enum { P = 1 << 0, RW = 1 << 1, US = 1 << 2, A = 1 << 5, D = 1 << 6, PS = 1 << 7, EA = 1 << 10 };
#define USER (P | RW | US)

/** Fault reasons. */
enum {
    PASID_DIRECTORY_ABSENT = 0x51,
    PASID_ABSENT = 0x59,
    NO_EXECUTION = 0x5c,
    NO_PRIVILEGE = 0x5d,
    FIRST_ABSENT = 0x71,
    FIRST_RESERVED = 0x72,
    TABLE_BEYOND = 0x74,
    TOP_TABLE_UNREADABLE = 0x75,
    TABLE_UNREADABLE = 0x76,
    NOT_CANONICAL = 0x80,
    PRIVILEGE_ONLY = 0x81,
    BEYOND_SECOND = 0x84,
    NO_WRITING = 0x85,
    NO_READING = 0x86,
};

struct guest {
    int iommufd;
    uint32_t ioas, parent;
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

/** The entry for `address` in the table that is `level` above pages; tables on the way are made. */
static inline uint64_t *entry_at(struct guest *guest, uint64_t root, unsigned levels,
                                 uint64_t address, unsigned level)
{
    uint64_t table = root;

    for (unsigned at = levels - 1;; at--) {
        uint64_t *entry = guest_word(guest, table) + (address >> (12 + 9 * at) & 511);

        if (at == level)
            return entry;
        if (!(*entry & P))
            *entry = make_table(guest) | USER;
        table = *entry & 0xffffffffff000UL;
    }
}

/** A page of 4 KiB. Gives its entry. */
static inline uint64_t *map_page(struct guest *guest, uint64_t root, uint64_t address,
                                 uint64_t physical, uint64_t flags)
{
    uint64_t *entry = entry_at(guest, root, 4, address, 0);

    *entry = physical | flags;
    return entry;
}

/* ---- objects ------------------------------------------------------------------------------ */

static inline long allocate_hwpt(int iommufd, uint32_t device, uint32_t pt, uint32_t flags,
                                 uint32_t type, const void *data, uint32_t length, uint32_t fault,
                                 uint32_t *hwpt)
{
    struct iommu_hwpt_alloc cmd = {.size = sizeof(cmd),
                                   .flags = flags,
                                   .dev_id = device,
                                   .pt_id = pt,
                                   .data_type = type,
                                   .data_len = length,
                                   .data_uptr = (uintptr_t)data,
                                   .fault_id = fault};
    long result = ioctl(iommufd, IOMMU_HWPT_ALLOC, &cmd);

    if (!result && hwpt)
        *hwpt = cmd.out_hwpt_id;
    return result;
}

/** A page table of ours. */
static inline uint32_t make_paging(const struct guest *guest, const struct test_device *device,
                                   uint32_t flags)
{
    uint32_t hwpt;

    if (allocate_hwpt(guest->iommufd, device->id, guest->ioas, flags, 0, NULL, 0, 0, &hwpt))
        give_up("HWPT_ALLOC of a paging table: %s", strerror(errno));
    return hwpt;
}

static inline uint32_t make_nested_with(const struct guest *guest, const struct test_device *device,
                                        struct iommu_hwpt_vtd_s1 data, uint32_t fault)
{
    uint32_t hwpt, flags = IOMMU_HWPT_ALLOC_PASID | (fault ? IOMMU_HWPT_FAULT_ID_VALID : 0);

    if (allocate_hwpt(guest->iommufd, device->id, guest->parent, flags, IOMMU_HWPT_DATA_VTD_S1,
                      &data, sizeof(data), fault, &hwpt))
        give_up("HWPT_ALLOC of a nested table: %s", strerror(errno));
    return hwpt;
}

static inline uint32_t make_nested(const struct guest *guest, const struct test_device *device,
                                   uint64_t root)
{
    return make_nested_with(guest, device,
                            (struct iommu_hwpt_vtd_s1){.pgtbl_addr = root, .addr_width = 48}, 0);
}

static inline long destroy_object(int iommufd, uint32_t id)
{
    struct iommu_destroy cmd = {.size = sizeof(cmd), .id = id};

    return ioctl(iommufd, IOMMU_DESTROY, &cmd);
}

/** `*count` is how many entries there are, and then how many were handled. */
static inline long invalidate_entries(int iommufd, uint32_t hwpt, const void *entries,
                                      uint32_t *count)
{
    struct iommu_hwpt_invalidate cmd = {.size = sizeof(cmd),
                                        .hwpt_id = hwpt,
                                        .data_uptr = (uintptr_t)entries,
                                        .data_type = IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
                                        .entry_len = sizeof(struct iommu_hwpt_vtd_s1_invalidate),
                                        .entry_num = *count};
    long result = ioctl(iommufd, IOMMU_HWPT_INVALIDATE, &cmd);

    *count = cmd.entry_num;
    return result;
}

static inline void invalidate(const struct guest *guest, uint32_t hwpt, uint64_t address,
                              uint64_t pages, uint32_t flags)
{
    struct iommu_hwpt_vtd_s1_invalidate entry = {.addr = address, .npages = pages, .flags = flags};
    uint32_t count = 1;

    if (invalidate_entries(guest->iommufd, hwpt, &entry, &count))
        give_up("HWPT_INVALIDATE: %s", strerror(errno));
}

static inline void invalidate_all(const struct guest *guest, uint32_t hwpt)
{
    invalidate(guest, hwpt, 0, UINT64_MAX, 0);
}

/* ---- devices ------------------------------------------------------------------------------ */

static inline long hardware_info(int iommufd, uint32_t device, struct iommu_hw_info_vtd *vtd,
                                 struct iommu_hw_info *info)
{
    *info = (struct iommu_hw_info){.size = sizeof(*info),
                                   .dev_id = device,
                                   .data_len = sizeof(*vtd),
                                   .data_uptr = (uintptr_t)vtd};
    return ioctl(iommufd, IOMMU_GET_HW_INFO, info);
}

/** Finds and binds a device behind a unit that nests, with or without a device TLB; or exits. */
static inline struct test_device find_device(int iommufd, bool with_ats)
{
    for (int index = 0; index < 64; index++) {
        struct iommu_hw_info_vtd vtd = {0};
        struct iommu_hw_info info;
        struct test_device device;
        int fd = open_node(index);

        if (fd < 0)
            continue;
        if (bind_device(iommufd, fd, index, &device)) {
            bool nests = !hardware_info(iommufd, device.id, &vtd, &info) &&
                         info.out_data_type == IOMMU_HW_INFO_TYPE_INTEL_VTD &&
                         vtd.ecap_reg >> 26 & 1;
            bool has_ats = !(info.out_capabilities & IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED);

            if (nests && has_ats == with_ats)
                return device;
            close(device.faults);
        }
        close(fd);
    }
    give_up("no device behind a nesting VT-d unit %s a device TLB", with_ats ? "with" : "without");
    abort();
}

/**
 * The guest's memory, mapped; a table for it that can be nested on; and the device's view of it.
 * With `shared`, the memory is a memfd, else private. Where pages are looked at one by one, none is
 * part of a large one: addresses here and there are not aligned alike.
 */
static inline struct guest make_guest(int iommufd, const struct test_device *device, bool shared,
                                      uint32_t flags)
{
    struct guest guest = {.iommufd = iommufd, .next_table = GUEST};
    struct iommu_ioas_alloc ioas = {.size = sizeof(ioas)};
    struct iommu_ioas_map map = {.size = sizeof(map),
                                 .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
                                          IOMMU_IOAS_MAP_WRITEABLE,
                                 .length = GUEST_LENGTH,
                                 .iova = GUEST};

    int memory = shared ? memfd_create("guest", MFD_CLOEXEC) : -1;

    if (shared && (memory < 0 || ftruncate(memory, GUEST_LENGTH + PAGE)))
        give_up("no memory for a guest: %s", strerror(errno));
    guest.memory = mmap(NULL, GUEST_LENGTH + PAGE, PROT_READ | PROT_WRITE,
                        shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, memory, 0);
    if (guest.memory == MAP_FAILED || ioctl(iommufd, IOMMU_IOAS_ALLOC, &ioas))
        give_up("no memory for a guest: %s", strerror(errno));
    if (flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING)
        guest.memory += PAGE;
    guest.ioas = map.ioas_id = ioas.out_ioas_id;
    map.user_va = (uintptr_t)guest.memory;
    if (ioctl(iommufd, IOMMU_IOAS_MAP, &map))
        give_up("IOAS_MAP: %s", strerror(errno));
    guest.parent = make_paging(&guest, device,
                               IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_ALLOC_PASID | flags);
    for (unsigned i = 0; i != DATA_PAGES; i++)
        memset(guest_word(&guest, data_page(i)), (int)i + 1, PAGE);
    if (attach_to(device, guest.parent, STAGING_PASID))
        give_up("attaching the guest's memory: %s", strerror(errno));
    return guest;
}

/** What the device's buffer begins with. */
static inline uint64_t buffer_word(const struct guest *guest, const struct test_device *device)
{
    if (store(device, GUEST + STAGING, 8, STAGING_PASID) != COMPLETED)
        give_up("the device's buffer cannot be looked at");
    return *guest_word(guest, GUEST + STAGING);
}

/** The first byte that the device reads at `iova`; a status above 0x100 when it reads none. */
static inline uint64_t read_byte(const struct guest *guest, const struct test_device *device,
                                 uint64_t iova, uint32_t attributes)
{
    uint32_t status = fetch(device, iova, 8, attributes);

    return status == COMPLETED ? buffer_word(guest, device) & 0xff : 0x100u + status;
}

/* ---- faults ------------------------------------------------------------------------------- */

/** A request without PASID of a device that does not translate itself. */
static inline void check_fault(const struct test_device *device, uint32_t reason, uint64_t iova,
                               uint32_t attributes, bool writing, const char *what)
{
    struct iommufd_sim_fault fault = {0};
    bool has_pasid = attributes & WITH_PASID;
    /* VT-d 11.4.14: FI; SID, PRIV, EXE, PP, FR, PV, T1, F */
    uint64_t high = (uint64_t)reason << 32 | 1UL << 63 | (writing ? 0 : 1UL << 62);

    if (!take_fault(device, &fault)) {
        check_number(0, reason, "%s", what);
        return;
    }
    high |= fault.requester;
    if (has_pasid)
        high |= (uint64_t)(attributes & 0xfffff) << 40 | 1UL << 31 |
                (attributes & PRIVILEGED ? 1UL << 29 : 0) | (attributes & EXECUTE ? 1UL << 30 : 0);
    if (!check_number(fault.reason, reason, "%s", what))
        return;
    if (fault.raw[0] != (iova & ~0xfffUL) || fault.raw[1] != high || fault.iova != iova ||
        fault.dev_id != device->id || fault.raw[2] || fault.raw[3])
        check_number(fault.raw[1], high, "%s: the record", what);
    if (drop_faults(device))
        check_number(1, 0, "%s: one fault only", what);
}

#endif /* VTD_H */

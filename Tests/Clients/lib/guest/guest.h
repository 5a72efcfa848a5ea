/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest with x86-64 page tables: its memory, the page tables in that memory, and what a device
 * reads through them. `vtd.h` and `amd.h` add what belongs to one vendor's IOMMU.
 *
 *   guest physical address   contents
 *   GUEST + 0                page tables, allocated upwards
 *   GUEST + DATA             pages of data; page n is filled with the byte n + 1
 *   GUEST + STAGING          a copy of the device's buffer, for checks of what the device has read
 */
#ifndef GUEST_H
#define GUEST_H

#include "vfio/test_device.h"

#define GUEST 0x40000000UL
#define DATA 0x400000UL
#define STAGING 0x7ff000UL
#define GUEST_LENGTH 0x800000UL
#define DATA_PAGES 16

/** Bits of page-table entries. */
enum { P = 1 << 0, RW = 1 << 1, US = 1 << 2, A = 1 << 5, D = 1 << 6, PS = 1 << 7 };
#define USER (P | RW | US)

struct guest {
    int iommufd;
    uint32_t ioas, parent, viommu;
    unsigned char *memory;
    uint64_t next_table;
    uint32_t staging; /* attributes of DMA requests whose addresses are guest physical */
};

/** Returns where the word at a guest physical address is mapped. */
uint64_t *guest_word(const struct guest *guest, uint64_t physical);

/** Returns the guest physical address of data page `number`. */
uint64_t data_page(unsigned number);

/** Returns the guest physical address of a new table of zeros. */
uint64_t allocate_table(struct guest *guest);

/**
 * Returns the entry for `address` at `level`, where level 0 is the leaf table, in the four-level
 * table at `root`. Allocates the tables on the way.
 */
uint64_t *entry_at(struct guest *guest, uint64_t root, uint64_t address, unsigned level);

/** Maps a page of 4 KiB. Returns its entry. */
uint64_t *map_page(struct guest *guest, uint64_t root, uint64_t address, uint64_t physical,
                   uint64_t flags);

/** Maps a data page with a release store, as a guest does that invalidates afterwards. */
void map_data_page(struct guest *guest, uint64_t root, uint64_t address, unsigned page);

/* ---- objects ------------------------------------------------------------------------------ */

#define MAP_FLAGS                                                                                  \
    (IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE)

/**
 * Makes a guest with memory, private or of a memfd, that is mapped into a new IOAS. With
 * `is_uneven`, user addresses and IOVAs are not aligned alike, so that no page is mapped by a large
 * entry.
 */
struct guest make_guest_memory(int iommufd, bool is_shared, bool is_uneven);

/** Maps all of the guest's memory into its IOAS. Returns the ioctl's result. */
long map_memory(const struct guest *guest);

/** Unmaps all of the guest's memory. Returns the ioctl's result. */
long unmap_memory(const struct guest *guest);

/** Stores the ID of the new HWPT unless `hwpt` is NULL. Returns the ioctl's result. */
long allocate_hwpt(int iommufd, uint32_t device, uint32_t pt, uint32_t flags, uint32_t type,
                   const void *data, uint32_t length, uint32_t fault, uint32_t *hwpt);

/** Returns the ID of a new paging HWPT on the guest's IOAS. */
uint32_t allocate_paging(const struct guest *guest, const struct test_device *device,
                         uint32_t flags);

long destroy_object(int iommufd, uint32_t id);

/** Issues GET_HW_INFO. Returns the ioctl's result. */
long hardware_info(int iommufd, uint32_t device, void *data, uint32_t length,
                   struct iommu_hw_info *info);

/**
 * Binds VFIO devices one by one until `is_wanted`, and closes the others. Returns false when none
 * is wanted.
 */
bool find_wanted_device(int iommufd, struct test_device *device,
                        bool (*is_wanted)(int iommufd, const struct test_device *device));

/* ---- data --------------------------------------------------------------------------------- */

/** Returns the first word of the device's buffer. */
uint64_t device_buffer_word(const struct guest *guest, const struct test_device *device);

/**
 * Returns the first byte that the device reads at `iova`, or 0x100 plus its status when it reads
 * none.
 */
uint64_t read_byte(const struct guest *guest, const struct test_device *device, uint64_t iova,
                   uint32_t attributes);

/**
 * Reads `count` pages at `iova`, which were mapped to data pages 0, 1, … and then to data pages 8,
 * 9, …. Returns bit i when the device reads page i through the new entry, bit 8 + i when it reads
 * neither page.
 */
unsigned moved_pages(const struct guest *guest, const struct test_device *device, uint64_t iova,
                     unsigned count, uint32_t attributes);

#endif /* GUEST_H */

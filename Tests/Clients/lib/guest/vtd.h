/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest on a VT-d unit: HWPTs nested on its first-stage tables, invalidation, and fault records.
 */
#ifndef VTD_H
#define VTD_H

#include "guest/guest.h"

/** The PASID by which the device accesses guest physical addresses. */
#define STAGING_PASID PASID(0x3ff)

/** A bit of first-stage entries that x86-64 tables do not have. */
enum { EA = 1 << 10 };

/** Fault reasons (VT-d §7.1.3). */
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

/* ---- devices and objects ------------------------------------------------------------------ */

/**
 * Finds and binds a device behind a unit that nests, with or without a device TLB. Exits when there
 * is none.
 */
struct test_device vtd_find_device(int iommufd, bool with_ats);

/**
 * Makes a guest with a nesting parent that is allocated with `flags`, and attaches STAGING_PASID of
 * the device to the parent. With dirty tracking no page is mapped by a large entry.
 */
struct guest vtd_make_guest(int iommufd, const struct test_device *device, bool shared,
                            uint32_t flags);

/**
 * Returns the ID of an HWPT that is nested on the guest's parent; with the fault queue `fault`
 * unless it is 0.
 */
uint32_t vtd_make_nested_with(const struct guest *guest, const struct test_device *device,
                              struct iommu_hwpt_vtd_s1 data, uint32_t fault);

/** Returns the ID of an HWPT for the four-level table at `root`, without a fault queue. */
uint32_t vtd_make_nested(const struct guest *guest, const struct test_device *device,
                         uint64_t root);

/* ---- invalidation ------------------------------------------------------------------------- */

/**
 * Issues HWPT_INVALIDATE with `*count` entries of `length` bytes, and stores in `*count` how many
 * were handled. Returns the ioctl's result.
 */
long vtd_invalidate_entries(int iommufd, uint32_t hwpt, const void *entries, uint32_t length,
                            uint32_t *count);

void vtd_invalidate(const struct guest *guest, uint32_t hwpt, uint64_t address, uint64_t pages,
                    uint32_t flags);

void vtd_invalidate_all(const struct guest *guest, uint32_t hwpt);

/* ---- faults ------------------------------------------------------------------------------- */

/** Checks that the fault log holds exactly one record, of an untranslated request. */
void vtd_check_fault(const struct test_device *device, uint32_t reason, uint64_t iova,
                     uint32_t attributes, bool writing, const char *what);

#endif /* VTD_H */

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest on an AMD-Vi unit: GCR3 tables in its memory, device table entries and event log entries
 * (AMD 48882).
 */
#ifndef AMD_H
#define AMD_H

#include "guest/guest.h"

/** A guest physical address that amd_flush_caches() maps and unmaps. */
#define SPARE 0x80000000UL

/** Fields of the first word of a device table entry. */
#define DTE_V (1UL << 0)
#define DTE_TV (1UL << 1)
#define DTE_PPR (1UL << 52)
#define DTE_GIOV (1UL << 54)
#define DTE_GV (1UL << 55)
#define DTE_GLX(levels) ((uint64_t)(levels) << 56)
/** A field of the second word. */
#define DTE_I (1UL << 32)

/** Event codes. */
enum { IO_PAGE_FAULT = 2, INVALID_DEVICE_REQUEST = 8 };

/** Flags of an event, from bit 48 of its first word on. */
enum { EV_GN = 1 << 0, EV_NX = 1 << 1, EV_US = 1 << 2, EV_PR = 1 << 4, EV_RW = 1 << 5,
       EV_PE = 1 << 6, EV_RZ = 1 << 7 };
/**
 * A flag for amd_check_event() that is not in the record: the device has no page table, so its
 * domain ID is 0.
 */
enum { DETACHED = 1 << 16 };

/**
 * Returns the device table entry of a guest with a GCR3 table: V, TV, GV and the bits `more` of the
 * first word.
 */
struct iommu_hwpt_amd_guest guest_dte(uint64_t gcr3, uint16_t domain, uint64_t more);

/* ---- devices and objects ------------------------------------------------------------------ */

/** Returns whether GET_HW_INFO answers IOMMU_HW_INFO_TYPE_AMD. */
bool is_behind_amd(int iommufd, const struct test_device *device);

/**
 * Finds and binds the first device behind an AMD-Vi unit that is not bound. Exits when there is
 * none.
 */
struct test_device amd_find_device(int iommufd);

/**
 * Makes a guest with a nesting parent and a vIOMMU. Requests without PASID access guest physical
 * addresses.
 */
struct guest amd_make_guest(int iommufd, const struct test_device *device, bool shared);

/** Stores the ID of the new vIOMMU unless `viommu` is NULL. Returns the ioctl's result. */
long amd_allocate_viommu(int iommufd, uint32_t device, uint32_t parent, uint32_t type,
                         uint32_t *viommu);

/** Returns the ID of an HWPT that is nested on the guest's vIOMMU. */
uint32_t amd_make_nested(const struct guest *guest, const struct test_device *device,
                         struct iommu_hwpt_amd_guest data);

/**
 * Maps and unmaps a page of the host table, which invalidates all that the unit has cached of the
 * guest.
 */
void amd_flush_caches(const struct guest *guest);

/* ---- events ------------------------------------------------------------------------------- */

/**
 * Checks that the fault log holds exactly one event, with this code, these flags and this address.
 * With EV_GN the event has the PASID of the request. Without EV_GN it has a domain ID, which only
 * the host knows, but which is not 0 unless the device is DETACHED.
 */
void amd_check_event(const struct test_device *device, unsigned code, unsigned flags,
                     uint64_t address, uint64_t iova, uint32_t attributes, const char *what);

#endif /* AMD_H */

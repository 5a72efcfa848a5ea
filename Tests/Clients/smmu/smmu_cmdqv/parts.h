/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of smmu_cmdqv share. */
#ifndef SMMU_CMDQV_PARTS_H
#define SMMU_CMDQV_PARTS_H

#include "smmu/smmu_queue.h"

/* ---- objects.c ---------------------------------------------------------------------------- */

enum { ENTRIES = PAGE / 16 };

/** What VIOMMU_ALLOC answered. */
extern struct iommu_viommu_tegra241_cmdqv interface;
/** Guest physical addresses of the queues' rings. */
extern uint64_t rings[2];
extern uint32_t queue_ids[2];

/**
 * Tests an SMMUv3 that has no CMDQV. Returns a nesting parent of that unit; its device is closed.
 */
uint32_t test_unit_without_cmdqv(void);
void find_cmdqv_unit(void);
void test_viommu_alloc(uint32_t others_parent);
void test_vdevice_alloc(void);
void test_hw_queue_alloc(void);

/* ---- registers.c -------------------------------------------------------------------------- */

extern struct vcmdq first, second;
/**
 * What section titles begin with: how the registers are accessed. The first word is "part" when a
 * front end may be without that access.
 */
extern const char *section_prefix;

/** Maps the page. Returns false when mmap() fails with ENODEV. */
bool map_interface(void);
/** Finds the page by pread(), an extension. Returns true. */
bool access_interface_by_calls(void);
/** Waits until the unit has seen all values that were stored in the first queue's registers. */
void sync_registers(void);
void test_registers(void);
void test_destruction(void);

/* ---- commands.c --------------------------------------------------------------------------- */

static const uint64_t HERE = 0x123456000;

/**
 * Maps HERE to another page after the device has read it, so that the old translations are cached.
 * First issues
 *  `invalidation`, which removes still older ones.
 */
void make_stale(struct smmu_command invalidation);
/** Returns which new translations the device uses: bit 0 without PASID, bit 1 with PASID 1. */
unsigned seen_changes(void);
void test_invalidation(void);
void test_device_tlb(void);

/* ---- errors.c ----------------------------------------------------------------------------- */

void test_errors(void);
void test_lost_events(void);

#endif /* SMMU_CMDQV_PARTS_H */

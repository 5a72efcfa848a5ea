/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VMM and the SMMUv3 driver of its guest do for one device: a vIOMMU, nested HWPTs, context
 * descriptors, invalidation commands and event records. The first requirement that is not met ends
 * the client.
 */
#ifndef SMMU_DRIVER_H
#define SMMU_DRIVER_H

#include "smmu/smmu_guest.h"

enum { SMMUV3 = IOMMU_VIOMMU_TYPE_ARM_SMMUV3, STREAM_ENTRY = IOMMU_HWPT_DATA_ARM_SMMUV3,
       INVALIDATION_DATA = IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
       EVENTS = IOMMU_VEVENTQ_TYPE_ARM_SMMUV3 };

/** IDs of the objects that the functions use. */
extern uint32_t device_id, ioas, parent, viommu;
/** The file descriptor of the vEVENTQ. */
extern int event_queue;
/** The sequence number of the next event. */
extern uint32_t next_event_sequence;
/** The guest physical address of the table of context descriptors. */
extern uint64_t cd_table;

/** Requires that the device reads `byte` at `address`, or that it ends with the status -`byte`. */
void require_byte(int pasid, uint64_t address, int byte, const char *what);

/** Requires that the next event is this one. The header's sequence number is filled in. */
void require_event(struct smmu_event expected, const char *what);

void require_no_event(const char *what);

/* ---- the guest's driver ------------------------------------------------------------------- */

void write_context_descriptor(uint32_t pasid, struct context_descriptor descriptor);

/** Allocates a page table in which only READBACK_IOVA is mapped. */
uint64_t allocate_address_space(void);

/** Allocates a page that is filled with `byte`. */
uint64_t allocate_filled_page(int byte);

/**
 * Sends `*count` commands and stores in `*count` how many were handled. Returns the ioctl's result.
 */
long send_commands(const struct smmu_command *commands, uint32_t *count);

/** Sends a command. Exits when it fails. */
void send_command(struct smmu_command command);

/** Requires that the command fails with EIO. */
void require_refused(struct smmu_command command, const char *what);

/* ---- the VMM ------------------------------------------------------------------------------ */

/** Returns the ID of an HWPT nested on the vIOMMU, or 0. */
uint32_t allocate_nested(struct iommu_hwpt_arm_smmuv3 entry);

/** Attaches the device. Returns 0 or the errno. */
int attach_table(uint32_t table);

/** Attaches the device to an HWPT for this STE. Exits when that fails. */
void attach_entry(struct iommu_hwpt_arm_smmuv3 entry);

#endif /* SMMU_DRIVER_H */

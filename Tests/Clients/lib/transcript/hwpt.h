/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands that need a device: HWPTs, vIOMMUs and queues; and reads and writes of a queue's
 * file descriptor. A function issues its command on `iommufd`, prints the line and returns the
 * ioctl's result unless its comment says otherwise. Each of these commands names the part of the
 * interface that it belongs to.
 */
#ifndef HWPT_H
#define HWPT_H

#include "transcript/ioas.h"

extern const struct command HWPT_ALLOC;
extern const struct command GET_HW_INFO;
extern const struct command HWPT_SET_DIRTY_TRACKING;
extern const struct command HWPT_GET_DIRTY_BITMAP;
extern const struct command HWPT_INVALIDATE;
extern const struct command FAULT_QUEUE_ALLOC;
extern const struct command VIOMMU_ALLOC;
extern const struct command VDEVICE_ALLOC;
extern const struct command VEVENTQ_ALLOC;
extern const struct command HW_QUEUE_ALLOC;

/**
 * IOMMU_TEST_CMD with the fields that all operations have. `mock.h` has a command for each
 * operation.
 */
extern const struct command TEST_CMD;

/** All commands but TEST_CMD. The first COMMANDS_WITHOUT_DEVICE need no device. */
enum { COMMAND_COUNT = 22, COMMANDS_WITHOUT_DEVICE = 12 };
extern const struct command *const every_command[COMMAND_COUNT];

enum { NEST = IOMMU_HWPT_ALLOC_NEST_PARENT, TRACK = IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
       FAULTS = IOMMU_HWPT_FAULT_ID_VALID, PASID = IOMMU_HWPT_ALLOC_PASID };

/* ---- functions that return the ID of the new object, or 0 when the command failed ---------- */

uint32_t hwpt_alloc_with(uint32_t device, uint32_t pt, uint32_t flags, uint32_t type,
                         const void *data, uint32_t length, uint32_t fault);

uint32_t hwpt_alloc(uint32_t device, uint32_t pt, uint32_t flags);

uint32_t viommu_alloc(uint32_t device, uint32_t hwpt, uint32_t type, void *data, uint32_t length);

uint32_t vdevice_alloc(uint32_t viommu, uint32_t device, uint64_t virt_id);

/** Names the file descriptor and stores it in `*fd`. */
uint32_t veventq_alloc(const char *name, uint32_t viommu, uint32_t type, uint32_t depth, int *fd);

/** Names the file descriptor and stores it in `*fd`. */
uint32_t fault_queue_alloc(const char *name, int *fd);

uint32_t hw_queue_alloc(uint32_t viommu, uint32_t type, uint32_t index, uint64_t iova,
                        uint64_t length);

/* ---- other commands ----------------------------------------------------------------------- */

long get_hw_info(uint32_t device, uint32_t flags, uint32_t type, void *data, uint32_t length);

long set_dirty_tracking(uint32_t hwpt, uint32_t flags);

long get_dirty_bitmap(uint32_t hwpt, uint32_t flags, uint64_t iova, uint64_t length,
                      uint64_t page_size, const void *data);

long invalidate(uint32_t id, uint32_t type, const void *entries, uint32_t length, uint32_t count);

/* ---- file descriptors of queues ------------------------------------------------------------ */

/**
 * Reads up to `count` bytes into `memory` and prints them as 32-bit words. Returns read()'s result.
 */
long read_words(int fd, void *memory, size_t count);

/** Prints `count` bytes of `memory` as 32-bit words and writes them. Returns write()'s result. */
long write_words(int fd, const void *memory, size_t count);

/** Prints whether the queue can be read ("in") and written ("out") without waiting. */
void poll_queue(int fd);

#endif /* HWPT_H */

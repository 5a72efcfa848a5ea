/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands that need no device, and a function for each of them. A function issues its command
 * on `iommufd`, prints the line and returns the ioctl's result unless its comment says otherwise.
 */
#ifndef IOAS_H
#define IOAS_H

#include "transcript/transcript.h"

extern const struct command DESTROY;
extern const struct command IOAS_ALLOC;
extern const struct command IOAS_ALLOW_IOVAS;
extern const struct command IOAS_COPY;
extern const struct command IOAS_IOVA_RANGES;
extern const struct command IOAS_MAP;
extern const struct command IOAS_MAP_FILE;
extern const struct command IOAS_UNMAP;
extern const struct command OPTION;
extern const struct command VFIO_IOAS;
extern const struct command IOAS_CHANGE_PROCESS;
extern const struct command IOAS_NOIOMMU_GET_PA;

enum { FIXED = IOMMU_IOAS_MAP_FIXED_IOVA, W = IOMMU_IOAS_MAP_WRITEABLE,
       R = IOMMU_IOAS_MAP_READABLE };

/** Returns the ID of the new IOAS. */
uint32_t ioas_alloc(void);

long destroy(uint32_t id);

/** Returns the IOVA of the mapping, or UINT64_MAX when the command failed. */
uint64_t map(uint32_t ioas, uint64_t user_va, uint64_t length, uint32_t flags, uint64_t iova);

/** Returns the IOVA of the mapping, or UINT64_MAX when the command failed. */
uint64_t map_file(uint32_t ioas, int fd, uint64_t start, uint64_t length, uint32_t flags,
                  uint64_t iova);

/** Returns the IOVA of the copy, or UINT64_MAX when the command failed. */
uint64_t copy(uint32_t to, uint32_t from, uint64_t source, uint64_t length, uint32_t flags,
              uint64_t iova);

long unmap(uint32_t ioas, uint64_t iova, uint64_t length);

long allow_iovas(uint32_t ioas, const struct iommu_iova_range *ranges, uint32_t count);

/** Prints the ranges, at most 8, before it issues the command. */
long allow_iova_list(uint32_t ioas, const struct iommu_iova_range *ranges, uint32_t count);

long iova_ranges(uint32_t ioas, void *array, uint32_t count);

/** Prints the usable ranges and the alignment of an IOAS. */
void print_iova_ranges(uint32_t ioas);

long option(uint32_t id, uint16_t op, uint32_t object, uint64_t value);

long vfio_ioas(uint16_t op, uint32_t ioas);

#endif /* IOAS_H */

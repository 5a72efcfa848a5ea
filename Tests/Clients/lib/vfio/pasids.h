/* SPDX-License-Identifier: Apache-2.0 */
/* The forms of VFIO_IOMMU_PASID_REQUEST, and calls in another process. */
#ifndef PASIDS_H
#define PASIDS_H

#include "vfio/test_device.h"

#define LAST_PASID 0xfffffu

/**
 * Issues the request with the struct that has an `alloc_pasid`. Stores its `result` unless `result`
 * is NULL.
 */
long pasid_request(int fd, uint32_t argsz, uint32_t flags, uint32_t min, uint32_t max,
                   uint32_t *result);

/** Issues the request with the struct that has a `range`. */
long pasid_range_request(int fd, uint32_t flags, uint32_t min, uint32_t max);

/** Allocates a PASID in min ... max, and stores it unless `pasid` is NULL. */
long allocate_pasid(int fd, uint32_t min, uint32_t max, uint32_t *pasid);

long free_pasid(int fd, uint32_t pasid);

/** Calls `action` in a child process. Returns the result, which is at most 255. */
int in_other_process(int (*action)(void));

#endif /* PASIDS_H */

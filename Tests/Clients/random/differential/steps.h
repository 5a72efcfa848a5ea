/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps. Each draws its arguments, issues one call or a few, and records what it has created.
 */
#ifndef DIFFERENTIAL_STEPS_H
#define DIFFERENTIAL_STEPS_H

#include "state.h"

/* ---- ioas.c: IOASes, options, the process's limit, and VFIO's type1 commands --------------- */

void do_ioas_alloc(void);
void do_map(void);
void do_map_file(void);
void do_copy(void);
void do_unmap(void);
void do_allow(void);
void do_ranges(void);
void do_option(void);
void do_change_process(void);
void do_noiommu(void);
void do_limit(void);
void do_vfio_ioas(void);
void do_type1_map(void);
void do_type1_unmap(void);
void do_type1_info(void);
void do_vfio_request(void);
void do_wrong_request(void);

/* ---- tables.c: HWPTs, dirty tracking and invalidation -------------------------------------- */

void do_hwpt_alloc(void);
void do_parent(void);
void do_hw_info(void);
void do_tracking(void);
void do_dirty_bitmap(void);
void do_dirty(void);
void do_invalidate(void);

/* ---- viommus.c: vIOMMUs and queues --------------------------------------------------------- */

void do_fault_queue(void);
void do_viommu(void);
void do_vdevice(void);
void do_veventq(void);
void do_hw_queue(void);
void do_iopf(void);
void do_vevent(void);
void do_queue_io(void);

/* ---- devices.c: mock devices, and operations of the selftest interface ---------------------- */

void do_device(void);
void do_replace(void);
void do_pasid_attach(void);
void do_pasid_replace(void);
void do_pasid_detach(void);
void do_pasid_check(void);
void do_destroy(void);
void do_destroy_device(void);
void do_reserve(void);
void do_check_map(void);
void do_check_refs(void);
void do_check_iotlb(void);
void do_check_cache(void);
void do_memory_limit(void);
void do_unknown(void);

/**
 * Detaches all PASIDs of the device. The kernel warns when a device is destroyed that has one
 * attached.
 */
void detach_pasids(struct device *device);

/* ---- accesses.c: accesses, and other kinds of files ----------------------------------------- */

void do_access(void);
void do_access_pages(void);
void do_access_rw(void);
void do_access_destroy(void);
void do_access_replace(void);
void do_dmabuf(void);
void do_revoke(void);
void do_other_file(void);

#endif /* DIFFERENTIAL_STEPS_H */

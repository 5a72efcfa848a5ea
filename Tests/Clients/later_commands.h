/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands that need a device: page tables, vIOMMUs, queues. A simulator that has none of them
 * yet answers ENOTTY; their sections are marked so that the comparison can leave them out.
 */
#ifndef LATER_COMMANDS_H
#define LATER_COMMANDS_H

#include "transcript.h"

#include "iommufd_test.h"

static const struct command HWPT_ALLOC = {
    "HWPT_ALLOC", IOMMU_HWPT_ALLOC, sizeof(struct iommu_hwpt_alloc),
    ENDS(struct iommu_hwpt_alloc, __reserved), "hwpt",
    {FIELD(struct iommu_hwpt_alloc, flags, HEX), FIELD(struct iommu_hwpt_alloc, dev_id, DEC),
     FIELD(struct iommu_hwpt_alloc, pt_id, DEC), FIELD(struct iommu_hwpt_alloc, out_hwpt_id, DEC),
     FIELD(struct iommu_hwpt_alloc, __reserved, RESERVED),
     FIELD(struct iommu_hwpt_alloc, data_type, HEX), FIELD(struct iommu_hwpt_alloc, data_len, DEC),
     FIELD(struct iommu_hwpt_alloc, data_uptr, POINTER),
     FIELD(struct iommu_hwpt_alloc, fault_id, DEC),
     FIELD(struct iommu_hwpt_alloc, __reserved2, RESERVED)}};

static const struct command GET_HW_INFO = {
    "GET_HW_INFO", IOMMU_GET_HW_INFO, sizeof(struct iommu_hw_info),
    ENDS(struct iommu_hw_info, __reserved), "hwpt",
    {FIELD(struct iommu_hw_info, flags, HEX), FIELD(struct iommu_hw_info, dev_id, DEC),
     FIELD(struct iommu_hw_info, data_len, DEC), FIELD(struct iommu_hw_info, data_uptr, POINTER),
     FIELD(struct iommu_hw_info, out_data_type, HEX),
     FIELD(struct iommu_hw_info, out_max_pasid_log2, DEC),
     FIELD(struct iommu_hw_info, __reserved, RESERVED),
     FIELD(struct iommu_hw_info, out_capabilities, HEX)}};

static const struct command HWPT_SET_DIRTY_TRACKING = {
    "HWPT_SET_DIRTY_TRACKING", IOMMU_HWPT_SET_DIRTY_TRACKING,
    sizeof(struct iommu_hwpt_set_dirty_tracking),
    ENDS(struct iommu_hwpt_set_dirty_tracking, __reserved), "hwpt",
    {FIELD(struct iommu_hwpt_set_dirty_tracking, flags, HEX),
     FIELD(struct iommu_hwpt_set_dirty_tracking, hwpt_id, DEC),
     FIELD(struct iommu_hwpt_set_dirty_tracking, __reserved, RESERVED)}};

static const struct command HWPT_GET_DIRTY_BITMAP = {
    "HWPT_GET_DIRTY_BITMAP", IOMMU_HWPT_GET_DIRTY_BITMAP,
    sizeof(struct iommu_hwpt_get_dirty_bitmap), ENDS(struct iommu_hwpt_get_dirty_bitmap, data),
    "hwpt",
    {FIELD(struct iommu_hwpt_get_dirty_bitmap, hwpt_id, DEC),
     FIELD(struct iommu_hwpt_get_dirty_bitmap, flags, HEX),
     FIELD(struct iommu_hwpt_get_dirty_bitmap, __reserved, RESERVED),
     FIELD(struct iommu_hwpt_get_dirty_bitmap, iova, HEX),
     FIELD(struct iommu_hwpt_get_dirty_bitmap, length, HEX),
     FIELD(struct iommu_hwpt_get_dirty_bitmap, page_size, HEX),
     FIELD(struct iommu_hwpt_get_dirty_bitmap, data, POINTER)}};

static const struct command HWPT_INVALIDATE = {
    "HWPT_INVALIDATE", IOMMU_HWPT_INVALIDATE, sizeof(struct iommu_hwpt_invalidate),
    ENDS(struct iommu_hwpt_invalidate, __reserved), "hwpt",
    {FIELD(struct iommu_hwpt_invalidate, hwpt_id, DEC),
     FIELD(struct iommu_hwpt_invalidate, data_uptr, POINTER),
     FIELD(struct iommu_hwpt_invalidate, data_type, HEX),
     FIELD(struct iommu_hwpt_invalidate, entry_len, DEC),
     FIELD(struct iommu_hwpt_invalidate, entry_num, DEC),
     FIELD(struct iommu_hwpt_invalidate, __reserved, RESERVED)}};

static const struct command FAULT_QUEUE_ALLOC = {
    "FAULT_QUEUE_ALLOC", IOMMU_FAULT_QUEUE_ALLOC, sizeof(struct iommu_fault_alloc),
    ENDS(struct iommu_fault_alloc, out_fault_fd), "queues",
    {FIELD(struct iommu_fault_alloc, flags, HEX),
     FIELD(struct iommu_fault_alloc, out_fault_id, DEC),
     FIELD(struct iommu_fault_alloc, out_fault_fd, FILE_OUT)}};

static const struct command VIOMMU_ALLOC = {
    "VIOMMU_ALLOC", IOMMU_VIOMMU_ALLOC, sizeof(struct iommu_viommu_alloc),
    ENDS(struct iommu_viommu_alloc, out_viommu_id), "viommu",
    {FIELD(struct iommu_viommu_alloc, flags, HEX), FIELD(struct iommu_viommu_alloc, type, HEX),
     FIELD(struct iommu_viommu_alloc, dev_id, DEC), FIELD(struct iommu_viommu_alloc, hwpt_id, DEC),
     FIELD(struct iommu_viommu_alloc, out_viommu_id, DEC),
     FIELD(struct iommu_viommu_alloc, data_len, DEC),
     FIELD(struct iommu_viommu_alloc, __reserved, RESERVED),
     FIELD(struct iommu_viommu_alloc, data_uptr, POINTER)}};

static const struct command VDEVICE_ALLOC = {
    "VDEVICE_ALLOC", IOMMU_VDEVICE_ALLOC, sizeof(struct iommu_vdevice_alloc),
    ENDS(struct iommu_vdevice_alloc, virt_id), "viommu",
    {FIELD(struct iommu_vdevice_alloc, viommu_id, DEC),
     FIELD(struct iommu_vdevice_alloc, dev_id, DEC),
     FIELD(struct iommu_vdevice_alloc, out_vdevice_id, DEC),
     FIELD(struct iommu_vdevice_alloc, virt_id, HEX)}};

static const struct command VEVENTQ_ALLOC = {
    "VEVENTQ_ALLOC", IOMMU_VEVENTQ_ALLOC, sizeof(struct iommu_veventq_alloc),
    ENDS(struct iommu_veventq_alloc, out_veventq_fd), "viommu",
    {FIELD(struct iommu_veventq_alloc, flags, HEX),
     FIELD(struct iommu_veventq_alloc, viommu_id, DEC),
     FIELD(struct iommu_veventq_alloc, type, HEX),
     FIELD(struct iommu_veventq_alloc, veventq_depth, DEC),
     FIELD(struct iommu_veventq_alloc, out_veventq_id, DEC),
     FIELD(struct iommu_veventq_alloc, out_veventq_fd, FILE_OUT),
     FIELD(struct iommu_veventq_alloc, __reserved, RESERVED)}};

static const struct command HW_QUEUE_ALLOC = {
    "HW_QUEUE_ALLOC", IOMMU_HW_QUEUE_ALLOC, sizeof(struct iommu_hw_queue_alloc),
    ENDS(struct iommu_hw_queue_alloc, length), "viommu",
    {FIELD(struct iommu_hw_queue_alloc, flags, HEX),
     FIELD(struct iommu_hw_queue_alloc, viommu_id, DEC),
     FIELD(struct iommu_hw_queue_alloc, type, HEX), FIELD(struct iommu_hw_queue_alloc, index, DEC),
     FIELD(struct iommu_hw_queue_alloc, out_hw_queue_id, DEC),
     FIELD(struct iommu_hw_queue_alloc, nesting_parent_iova, HEX),
     FIELD(struct iommu_hw_queue_alloc, length, HEX)}};

/** The operation's own fields differ; `mock.h` prints them. */
static const struct command TEST_CMD = {
    "TEST_CMD", IOMMU_TEST_CMD, sizeof(struct iommu_test_cmd), ENDS(struct iommu_test_cmd, last),
    "mock",
    {FIELD(struct iommu_test_cmd, op, DEC), FIELD(struct iommu_test_cmd, id, DEC),
     FIELD(struct iommu_test_cmd, __reserved, RESERVED)}};

#endif /* LATER_COMMANDS_H */

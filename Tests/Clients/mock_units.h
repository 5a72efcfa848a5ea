/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands for page tables, vIOMMUs and queues, and the test operations that look behind them, in
 * short forms: each prints its line and gives the ioctl's result or the new object's id.
 *
 * Queue descriptors are read and written here too, with what came and went printed as 32-bit words.
 */
#ifndef MOCK_UNITS_H
#define MOCK_UNITS_H

#include "mock.h"

#include <poll.h>

TEST_COMMAND(CHECK_IOTLB, TEST(id, "hwpt_id", DEC), TEST(check_iotlb.id, "entry", DEC),
             TEST(check_iotlb.iotlb, "value", HEX));
TEST_COMMAND(CHECK_CACHE, TEST(id, "idev_id", DEC), TEST(check_dev_cache.id, "entry", DEC),
             TEST(check_dev_cache.cache, "value", HEX));
TEST_COMMAND(TRIGGER_IOPF, TEST(trigger_iopf.dev_id, "dev_id", DEC),
             TEST(trigger_iopf.pasid, "pasid", DEC), TEST(trigger_iopf.grpid, "grpid", DEC),
             TEST(trigger_iopf.perm, "perm", HEX), TEST(trigger_iopf.addr, "addr", HEX));
TEST_COMMAND(TRIGGER_VEVENT, TEST(trigger_vevent.dev_id, "dev_id", DEC));
TEST_COMMAND(PASID_ATTACH, TEST(id, "stdev_id", DEC), TEST(pasid_attach.pasid, "pasid", DEC),
             TEST(pasid_attach.pt_id, "pt_id", DEC));
TEST_COMMAND(PASID_REPLACE, TEST(id, "stdev_id", DEC), TEST(pasid_replace.pasid, "pasid", DEC),
             TEST(pasid_replace.pt_id, "pt_id", DEC));
TEST_COMMAND(PASID_DETACH, TEST(id, "stdev_id", DEC), TEST(pasid_detach.pasid, "pasid", DEC));
TEST_COMMAND(PASID_CHECK, TEST(id, "stdev_id", DEC), TEST(pasid_check.pasid, "pasid", DEC),
             TEST(pasid_check.hwpt_id, "hwpt_id", DEC));

enum { NEST = IOMMU_HWPT_ALLOC_NEST_PARENT, TRACK = IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
       FAULTS = IOMMU_HWPT_FAULT_ID_VALID, PASID = IOMMU_HWPT_ALLOC_PASID };

/** Gives the new id, or 0. */
static inline uint32_t hwpt_alloc_with(uint32_t device, uint32_t pt, uint32_t flags, uint32_t type,
                                       const void *data, uint32_t length, uint32_t fault)
{
    struct iommu_hwpt_alloc cmd = {.size = sizeof(cmd),
                                   .flags = flags,
                                   .dev_id = device,
                                   .pt_id = pt,
                                   .data_type = type,
                                   .data_len = length,
                                   .data_uptr = (uintptr_t)data,
                                   .fault_id = fault};

    return run(&HWPT_ALLOC, &cmd) ? 0 : cmd.out_hwpt_id;
}

/** A nested one on a paging one or on a vIOMMU; its four entries begin as 7. */
static inline uint32_t nested_alloc(uint32_t device, uint32_t pt, uint32_t flags, uint32_t fault)
{
    static const struct iommu_hwpt_selftest data = {.iotlb = 7};

    name_region("seven", (void *)&data, sizeof(data));
    return hwpt_alloc_with(device, pt, flags, IOMMU_HWPT_DATA_SELFTEST, &data, sizeof(data), fault);
}

static inline long get_hw_info(uint32_t device, uint32_t flags, uint32_t type, void *data,
                               uint32_t length)
{
    struct iommu_hw_info cmd = {.size = sizeof(cmd),
                                .flags = flags,
                                .dev_id = device,
                                .data_len = length,
                                .data_uptr = (uintptr_t)data,
                                .in_data_type = type};

    return run(&GET_HW_INFO, &cmd);
}

static inline long set_dirty_tracking(uint32_t hwpt, uint32_t flags)
{
    struct iommu_hwpt_set_dirty_tracking cmd = {
        .size = sizeof(cmd), .flags = flags, .hwpt_id = hwpt};

    return run(&HWPT_SET_DIRTY_TRACKING, &cmd);
}

static inline long get_dirty_bitmap(uint32_t hwpt, uint32_t flags, uint64_t iova, uint64_t length,
                                    uint64_t page_size, const void *data)
{
    struct iommu_hwpt_get_dirty_bitmap cmd = {.size = sizeof(cmd),
                                              .hwpt_id = hwpt,
                                              .flags = flags,
                                              .iova = iova,
                                              .length = length,
                                              .page_size = page_size,
                                              .data = (uintptr_t)data};

    return run(&HWPT_GET_DIRTY_BITMAP, &cmd);
}

static inline long make_dirty(uint32_t hwpt, uint64_t iova, uint64_t length, uint64_t page_size,
                              const void *bitmap)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_DIRTY, hwpt);

    cmd.dirty.iova = iova;
    cmd.dirty.length = length;
    cmd.dirty.page_size = page_size;
    cmd.dirty.uptr = (uintptr_t)bitmap;
    return run(&DIRTY, &cmd);
}

static inline long invalidate(uint32_t id, uint32_t type, const void *entries, uint32_t length,
                              uint32_t count)
{
    struct iommu_hwpt_invalidate cmd = {.size = sizeof(cmd),
                                        .hwpt_id = id,
                                        .data_uptr = (uintptr_t)entries,
                                        .data_type = type,
                                        .entry_len = length,
                                        .entry_num = count};

    return run(&HWPT_INVALIDATE, &cmd);
}

static inline uint32_t viommu_alloc(uint32_t device, uint32_t hwpt, uint32_t type, void *data,
                                    uint32_t length)
{
    struct iommu_viommu_alloc cmd = {.size = sizeof(cmd),
                                     .type = type,
                                     .dev_id = device,
                                     .hwpt_id = hwpt,
                                     .data_len = length,
                                     .data_uptr = (uintptr_t)data};

    return run(&VIOMMU_ALLOC, &cmd) ? 0 : cmd.out_viommu_id;
}

static inline uint32_t vdevice_alloc(uint32_t viommu, uint32_t device, uint64_t virt_id)
{
    struct iommu_vdevice_alloc cmd = {
        .size = sizeof(cmd), .viommu_id = viommu, .dev_id = device, .virt_id = virt_id};

    return run(&VDEVICE_ALLOC, &cmd) ? 0 : cmd.out_vdevice_id;
}

/** Gives the new id, or 0; the descriptor gets the name. */
static inline uint32_t veventq_alloc(const char *name, uint32_t viommu, uint32_t type,
                                     uint32_t depth, int *fd)
{
    struct iommu_veventq_alloc cmd = {
        .size = sizeof(cmd), .viommu_id = viommu, .type = type, .veventq_depth = depth};

    if (run(&VEVENTQ_ALLOC, &cmd))
        return 0;
    *fd = name_fd(name, (int)cmd.out_veventq_fd);
    return cmd.out_veventq_id;
}

static inline uint32_t fault_queue_alloc(const char *name, int *fd)
{
    struct iommu_fault_alloc cmd = {.size = sizeof(cmd)};

    if (run(&FAULT_QUEUE_ALLOC, &cmd))
        return 0;
    *fd = name_fd(name, (int)cmd.out_fault_fd);
    return cmd.out_fault_id;
}

static inline uint32_t hw_queue_alloc(uint32_t viommu, uint32_t type, uint32_t index, uint64_t iova,
                                      uint64_t length)
{
    struct iommu_hw_queue_alloc cmd = {.size = sizeof(cmd),
                                       .viommu_id = viommu,
                                       .type = type,
                                       .index = index,
                                       .nesting_parent_iova = iova,
                                       .length = length};

    return run(&HW_QUEUE_ALLOC, &cmd) ? 0 : cmd.out_hw_queue_id;
}

static inline long check_iotlb(uint32_t hwpt, uint32_t entry, uint32_t value)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_MD_CHECK_IOTLB, hwpt);

    cmd.check_iotlb.id = entry;
    cmd.check_iotlb.iotlb = value;
    return run(&CHECK_IOTLB, &cmd);
}

static inline long check_cache(uint32_t idev, uint32_t entry, uint32_t value)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_DEV_CHECK_CACHE, idev);

    cmd.check_dev_cache.id = entry;
    cmd.check_dev_cache.cache = value;
    return run(&CHECK_CACHE, &cmd);
}

static inline long trigger_iopf(uint32_t idev, uint32_t pasid, uint64_t address)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_TRIGGER_IOPF, 0);

    cmd.trigger_iopf.dev_id = idev;
    cmd.trigger_iopf.pasid = pasid;
    cmd.trigger_iopf.grpid = 2;
    cmd.trigger_iopf.perm = IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE;
    cmd.trigger_iopf.addr = address;
    return run(&TRIGGER_IOPF, &cmd);
}

static inline long trigger_vevent(uint32_t idev)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_TRIGGER_VEVENT, 0);

    cmd.trigger_vevent.dev_id = idev;
    return run(&TRIGGER_VEVENT, &cmd);
}

static inline long pasid_attach(uint32_t stdev, uint32_t pasid, uint32_t pt)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_PASID_ATTACH, stdev);

    cmd.pasid_attach.pasid = pasid;
    cmd.pasid_attach.pt_id = pt;
    return run(&PASID_ATTACH, &cmd);
}

static inline long pasid_replace(uint32_t stdev, uint32_t pasid, uint32_t pt)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_PASID_REPLACE, stdev);

    cmd.pasid_replace.pasid = pasid;
    cmd.pasid_replace.pt_id = pt;
    return run(&PASID_REPLACE, &cmd);
}

static inline long pasid_detach(uint32_t stdev, uint32_t pasid)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_PASID_DETACH, stdev);

    cmd.pasid_detach.pasid = pasid;
    return run(&PASID_DETACH, &cmd);
}

static inline long pasid_check(uint32_t stdev, uint32_t pasid, uint32_t hwpt)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_PASID_CHECK_HWPT, stdev);

    cmd.pasid_check.pasid = pasid;
    cmd.pasid_check.hwpt_id = hwpt;
    return run(&PASID_CHECK, &cmd);
}

/* ---- queue descriptors -------------------------------------------------------------------- */

/** Reads into `memory` and prints the words. */
static inline long read_words(int fd, void *memory, size_t count)
{
    long result = read(fd, memory, count);

    printf("read ");
    print_fd(fd);
    printf(" %zu", count);
    print_result(result);
    for (long at = 0; at + 4 <= result; at += 4)
        printf("%s%x", at ? "," : " | ", *(uint32_t *)((char *)memory + at));
    printf("\n");
    return result;
}

static inline long write_words(int fd, const void *memory, size_t count)
{
    long result;

    printf("write ");
    print_fd(fd);
    printf(" %zu", count);
    if (memory)
        for (size_t at = 0; at + 4 <= count; at += 4)
            printf("%s%x", at ? "," : " ", *(const uint32_t *)((const char *)memory + at));
    result = write(fd, memory, count);
    print_result(result);
    printf("\n");
    return result;
}

static inline void poll_queue(int fd)
{
    struct pollfd queue = {.fd = fd, .events = POLLIN | POLLOUT};

    poll(&queue, 1, 0);
    printf("poll ");
    print_fd(fd);
    printf(" -> %s%s\n", queue.revents & POLLIN ? "in " : "", queue.revents & POLLOUT ? "out" : "");
}

#endif /* MOCK_UNITS_H */

/* SPDX-License-Identifier: Apache-2.0 */
#include "transcript/hwpt.h"

#include <poll.h>

#include "iommufd_test.h"

const struct command HWPT_ALLOC = {
    "HWPT_ALLOC", IOMMU_HWPT_ALLOC, sizeof(struct iommu_hwpt_alloc),
    ENDS(struct iommu_hwpt_alloc, __reserved), "hwpt",
    {FIELD(struct iommu_hwpt_alloc, flags, HEX), FIELD(struct iommu_hwpt_alloc, dev_id, DEC),
     FIELD(struct iommu_hwpt_alloc, pt_id, DEC), FIELD(struct iommu_hwpt_alloc, out_hwpt_id, DEC),
     FIELD(struct iommu_hwpt_alloc, __reserved, RESERVED),
     FIELD(struct iommu_hwpt_alloc, data_type, HEX), FIELD(struct iommu_hwpt_alloc, data_len, DEC),
     FIELD(struct iommu_hwpt_alloc, data_uptr, POINTER),
     FIELD(struct iommu_hwpt_alloc, fault_id, DEC),
     FIELD(struct iommu_hwpt_alloc, __reserved2, RESERVED)}};

const struct command GET_HW_INFO = {
    "GET_HW_INFO", IOMMU_GET_HW_INFO, sizeof(struct iommu_hw_info),
    ENDS(struct iommu_hw_info, __reserved), "hwpt",
    {FIELD(struct iommu_hw_info, flags, HEX), FIELD(struct iommu_hw_info, dev_id, DEC),
     FIELD(struct iommu_hw_info, data_len, DEC), FIELD(struct iommu_hw_info, data_uptr, POINTER),
     FIELD(struct iommu_hw_info, out_data_type, HEX),
     FIELD(struct iommu_hw_info, out_max_pasid_log2, DEC),
     FIELD(struct iommu_hw_info, __reserved, RESERVED),
     FIELD(struct iommu_hw_info, out_capabilities, HEX)}};

const struct command HWPT_SET_DIRTY_TRACKING = {
    "HWPT_SET_DIRTY_TRACKING", IOMMU_HWPT_SET_DIRTY_TRACKING,
    sizeof(struct iommu_hwpt_set_dirty_tracking),
    ENDS(struct iommu_hwpt_set_dirty_tracking, __reserved), "hwpt",
    {FIELD(struct iommu_hwpt_set_dirty_tracking, flags, HEX),
     FIELD(struct iommu_hwpt_set_dirty_tracking, hwpt_id, DEC),
     FIELD(struct iommu_hwpt_set_dirty_tracking, __reserved, RESERVED)}};

const struct command HWPT_GET_DIRTY_BITMAP = {
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

const struct command HWPT_INVALIDATE = {
    "HWPT_INVALIDATE", IOMMU_HWPT_INVALIDATE, sizeof(struct iommu_hwpt_invalidate),
    ENDS(struct iommu_hwpt_invalidate, __reserved), "hwpt",
    {FIELD(struct iommu_hwpt_invalidate, hwpt_id, DEC),
     FIELD(struct iommu_hwpt_invalidate, data_uptr, POINTER),
     FIELD(struct iommu_hwpt_invalidate, data_type, HEX),
     FIELD(struct iommu_hwpt_invalidate, entry_len, DEC),
     FIELD(struct iommu_hwpt_invalidate, entry_num, DEC),
     FIELD(struct iommu_hwpt_invalidate, __reserved, RESERVED)}};

const struct command FAULT_QUEUE_ALLOC = {
    "FAULT_QUEUE_ALLOC", IOMMU_FAULT_QUEUE_ALLOC, sizeof(struct iommu_fault_alloc),
    ENDS(struct iommu_fault_alloc, out_fault_fd), "queues",
    {FIELD(struct iommu_fault_alloc, flags, HEX),
     FIELD(struct iommu_fault_alloc, out_fault_id, DEC),
     FIELD(struct iommu_fault_alloc, out_fault_fd, FILE_OUT)}};

const struct command VIOMMU_ALLOC = {
    "VIOMMU_ALLOC", IOMMU_VIOMMU_ALLOC, sizeof(struct iommu_viommu_alloc),
    ENDS(struct iommu_viommu_alloc, out_viommu_id), "viommu",
    {FIELD(struct iommu_viommu_alloc, flags, HEX), FIELD(struct iommu_viommu_alloc, type, HEX),
     FIELD(struct iommu_viommu_alloc, dev_id, DEC), FIELD(struct iommu_viommu_alloc, hwpt_id, DEC),
     FIELD(struct iommu_viommu_alloc, out_viommu_id, DEC),
     FIELD(struct iommu_viommu_alloc, data_len, DEC),
     FIELD(struct iommu_viommu_alloc, __reserved, RESERVED),
     FIELD(struct iommu_viommu_alloc, data_uptr, POINTER)}};

const struct command VDEVICE_ALLOC = {
    "VDEVICE_ALLOC", IOMMU_VDEVICE_ALLOC, sizeof(struct iommu_vdevice_alloc),
    ENDS(struct iommu_vdevice_alloc, virt_id), "viommu",
    {FIELD(struct iommu_vdevice_alloc, viommu_id, DEC),
     FIELD(struct iommu_vdevice_alloc, dev_id, DEC),
     FIELD(struct iommu_vdevice_alloc, out_vdevice_id, DEC),
     FIELD(struct iommu_vdevice_alloc, virt_id, HEX)}};

const struct command VEVENTQ_ALLOC = {
    "VEVENTQ_ALLOC", IOMMU_VEVENTQ_ALLOC, sizeof(struct iommu_veventq_alloc),
    ENDS(struct iommu_veventq_alloc, out_veventq_fd), "viommu",
    {FIELD(struct iommu_veventq_alloc, flags, HEX),
     FIELD(struct iommu_veventq_alloc, viommu_id, DEC),
     FIELD(struct iommu_veventq_alloc, type, HEX),
     FIELD(struct iommu_veventq_alloc, veventq_depth, DEC),
     FIELD(struct iommu_veventq_alloc, out_veventq_id, DEC),
     FIELD(struct iommu_veventq_alloc, out_veventq_fd, FILE_OUT),
     FIELD(struct iommu_veventq_alloc, __reserved, RESERVED)}};

const struct command HW_QUEUE_ALLOC = {
    "HW_QUEUE_ALLOC", IOMMU_HW_QUEUE_ALLOC, sizeof(struct iommu_hw_queue_alloc),
    ENDS(struct iommu_hw_queue_alloc, length), "viommu",
    {FIELD(struct iommu_hw_queue_alloc, flags, HEX),
     FIELD(struct iommu_hw_queue_alloc, viommu_id, DEC),
     FIELD(struct iommu_hw_queue_alloc, type, HEX), FIELD(struct iommu_hw_queue_alloc, index, DEC),
     FIELD(struct iommu_hw_queue_alloc, out_hw_queue_id, DEC),
     FIELD(struct iommu_hw_queue_alloc, nesting_parent_iova, HEX),
     FIELD(struct iommu_hw_queue_alloc, length, HEX)}};

const struct command TEST_CMD = {
    "TEST_CMD", IOMMU_TEST_CMD, sizeof(struct iommu_test_cmd), ENDS(struct iommu_test_cmd, last),
    "mock",
    {FIELD(struct iommu_test_cmd, op, DEC), FIELD(struct iommu_test_cmd, id, DEC),
     FIELD(struct iommu_test_cmd, __reserved, RESERVED)}};

const struct command *const every_command[COMMAND_COUNT] = {
    &DESTROY,
    &IOAS_ALLOC,
    &IOAS_ALLOW_IOVAS,
    &IOAS_COPY,
    &IOAS_IOVA_RANGES,
    &IOAS_MAP,
    &IOAS_MAP_FILE,
    &IOAS_UNMAP,
    &OPTION,
    &VFIO_IOAS,
    &IOAS_CHANGE_PROCESS,
    &IOAS_NOIOMMU_GET_PA,
    &HWPT_ALLOC,
    &GET_HW_INFO,
    &HWPT_SET_DIRTY_TRACKING,
    &HWPT_GET_DIRTY_BITMAP,
    &HWPT_INVALIDATE,
    &FAULT_QUEUE_ALLOC,
    &VIOMMU_ALLOC,
    &VDEVICE_ALLOC,
    &VEVENTQ_ALLOC,
    &HW_QUEUE_ALLOC,
};

uint32_t hwpt_alloc_with(uint32_t device, uint32_t pt, uint32_t flags, uint32_t type,
                         const void *data, uint32_t length, uint32_t fault)
{
    struct iommu_hwpt_alloc cmd = hwpt_arguments(device, pt, flags, type, data, length, fault);

    return run(&HWPT_ALLOC, &cmd) ? 0 : cmd.out_hwpt_id;
}

uint32_t hwpt_alloc(uint32_t device, uint32_t pt, uint32_t flags)
{
    return hwpt_alloc_with(device, pt, flags, 0, NULL, 0, 0);
}

long get_hw_info(uint32_t device, uint32_t flags, uint32_t type, void *data, uint32_t length)
{
    struct iommu_hw_info cmd = {.size = sizeof(cmd),
                                .flags = flags,
                                .dev_id = device,
                                .data_len = length,
                                .data_uptr = (uintptr_t)data,
                                .in_data_type = type};

    return run(&GET_HW_INFO, &cmd);
}

long set_dirty_tracking(uint32_t hwpt, uint32_t flags)
{
    struct iommu_hwpt_set_dirty_tracking cmd = {
        .size = sizeof(cmd), .flags = flags, .hwpt_id = hwpt};

    return run(&HWPT_SET_DIRTY_TRACKING, &cmd);
}

long get_dirty_bitmap(uint32_t hwpt, uint32_t flags, uint64_t iova, uint64_t length,
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

long invalidate(uint32_t id, uint32_t type, const void *entries, uint32_t length, uint32_t count)
{
    struct iommu_hwpt_invalidate cmd = invalidate_arguments(id, type, entries, length, count);

    return run(&HWPT_INVALIDATE, &cmd);
}

uint32_t viommu_alloc(uint32_t device, uint32_t hwpt, uint32_t type, void *data, uint32_t length)
{
    struct iommu_viommu_alloc cmd = viommu_arguments(device, hwpt, type, data, length);

    return run(&VIOMMU_ALLOC, &cmd) ? 0 : cmd.out_viommu_id;
}

uint32_t vdevice_alloc(uint32_t viommu, uint32_t device, uint64_t virt_id)
{
    struct iommu_vdevice_alloc cmd = vdevice_arguments(viommu, device, virt_id);

    return run(&VDEVICE_ALLOC, &cmd) ? 0 : cmd.out_vdevice_id;
}

uint32_t veventq_alloc(const char *name, uint32_t viommu, uint32_t type, uint32_t depth, int *fd)
{
    struct iommu_veventq_alloc cmd = {
        .size = sizeof(cmd), .viommu_id = viommu, .type = type, .veventq_depth = depth};

    if (run(&VEVENTQ_ALLOC, &cmd))
        return 0;
    *fd = name_fd(name, (int)cmd.out_veventq_fd);
    return cmd.out_veventq_id;
}

uint32_t fault_queue_alloc(const char *name, int *fd)
{
    struct iommu_fault_alloc cmd = {.size = sizeof(cmd)};

    if (run(&FAULT_QUEUE_ALLOC, &cmd))
        return 0;
    *fd = name_fd(name, (int)cmd.out_fault_fd);
    return cmd.out_fault_id;
}

uint32_t hw_queue_alloc(uint32_t viommu, uint32_t type, uint32_t index, uint64_t iova,
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

long read_words(int fd, void *memory, size_t count)
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

long write_words(int fd, const void *memory, size_t count)
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

void poll_queue(int fd)
{
    struct pollfd queue = {.fd = fd, .events = POLLIN | POLLOUT};

    poll(&queue, 1, 0);
    printf("poll ");
    print_fd(fd);
    printf(" -> %s%s\n", queue.revents & POLLIN ? "in " : "", queue.revents & POLLOUT ? "out" : "");
}

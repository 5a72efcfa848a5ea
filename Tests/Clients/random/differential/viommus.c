/* SPDX-License-Identifier: Apache-2.0 */
/* vIOMMUs and their objects, and the queues from which faults and events are read. */
#include "steps.h"

#include <sys/uio.h>

static void store_queue(int fd)
{
    unsigned slot = below(COUNT(queues));

    if (queues[slot].fd >= 0)
        printf("close %s -> %d\n", queues[slot].name, close(queues[slot].fd));
    queues[slot].fd = fd;
}

void do_fault_queue(void)
{
    struct iommu_fault_alloc cmd = {.size = sizeof(cmd)};

    if (ANSWERED(call(&FAULT_QUEUE_ALLOC, &cmd), struct iommu_fault_alloc, out_fault_fd)) {
        remember_id(FAULT, cmd.out_fault_id);
        store_queue((int)cmd.out_fault_fd);
    }
}

void do_viommu(void)
{
    struct iommu_viommu_selftest data = {.in_data = 0x1234, .out_data = 0x5678};
    struct iommu_viommu_alloc cmd = {.size = sizeof(cmd), .type = IOMMU_VIOMMU_TYPE_SELFTEST};

    cmd.dev_id = some_id(IDEV);
    cmd.hwpt_id = some_id(PARENT);
    fill_guarded(&data_memory, 0);
    if (below(2)) {
        cmd.data_len = chance(15) ? below(64) : sizeof(data);
        cmd.data_uptr = some_data(&data, sizeof(data));
    }
    if (ANSWERED(call(&VIOMMU_ALLOC, &cmd), struct iommu_viommu_alloc, out_viommu_id))
        remember_id(VIOMMU, cmd.out_viommu_id);
}

void do_vdevice(void)
{
    struct iommu_vdevice_alloc cmd = {.size = sizeof(cmd)};

    cmd.viommu_id = some_id(VIOMMU);
    cmd.dev_id = some_id(IDEV);
    cmd.virt_id = 0x50 + below(3);
    if (ANSWERED(call(&VDEVICE_ALLOC, &cmd), struct iommu_vdevice_alloc, out_vdevice_id))
        remember_id(VDEVICE, cmd.out_vdevice_id);
}

void do_veventq(void)
{
    struct iommu_veventq_alloc cmd = {.size = sizeof(cmd), .type = IOMMU_VEVENTQ_TYPE_SELFTEST};

    cmd.viommu_id = some_id(VIOMMU);
    cmd.veventq_depth = 1 + below(3);
    if (chance(10))
        cmd.type = 1 + below(3);
    if (chance(10))
        cmd.veventq_depth = (1u << 19) + below(2);
    if (ANSWERED(call(&VEVENTQ_ALLOC, &cmd), struct iommu_veventq_alloc, out_veventq_fd)) {
        remember_id(VEVENTQ, cmd.out_veventq_id);
        store_queue((int)cmd.out_veventq_fd);
    }
}

void do_hw_queue(void)
{
    struct iommu_hw_queue_alloc cmd = {
        .size = sizeof(cmd), .type = IOMMU_HW_QUEUE_TYPE_SELFTEST, .length = 0x800};

    cmd.viommu_id = some_id(VIOMMU);
    cmd.index = below(3);
    cmd.nesting_parent_iova = some_iova();
    if (chance(20))
        cmd.nesting_parent_iova = cmd.nesting_parent_iova / PAGE * PAGE + below(0x801);
    if (ANSWERED(call(&HW_QUEUE_ALLOC, &cmd), struct iommu_hw_queue_alloc, out_hw_queue_id))
        remember_id(HWQUEUE, cmd.out_hw_queue_id);
}

void do_iopf(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_TRIGGER_IOPF, 0);

    for (unsigned i = 1 + below(3); i; i--) {
        cmd.trigger_iopf.dev_id = some_id(IDEV);
        cmd.trigger_iopf.pasid = below(2) ? some_pasid() : 0;
        cmd.trigger_iopf.grpid = below(3);
        cmd.trigger_iopf.perm = below(8);
        cmd.trigger_iopf.addr = below(16) * PAGE;
        cmd.size = sizeof(cmd);
        call(&TRIGGER_IOPF, &cmd);
    }
}

void do_vevent(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_TRIGGER_VEVENT, 0);

    for (unsigned i = 1 + below(3); i; i--) {
        cmd.trigger_vevent.dev_id = some_id(IDEV);
        cmd.size = sizeof(cmd);
        call(&TRIGGER_VEVENT, &cmd);
    }
}

static void print_transfer(const char *what, const char *name, long result, size_t count,
                           uintptr_t at)
{
    const char *bar = " |";
    int error = errno;

    printf("%s %s %zu at ", what, name, count);
    print_pointer(at);
    errno = error;
    print_result(result);
    print_guarded_changes(&data_memory, at, &bar);
    printf("\n");
}

void do_queue_io(void)
{
    struct iommu_hwpt_page_response responses[3];
    struct iovec pieces[2];
    unsigned slot = below(COUNT(queues));
    int fd = queues[slot].fd;
    size_t count;
    uintptr_t at;
    int whence;

    if (fd < 0)
        return;
    switch (below(16)) {
    case 14:
        fill_guarded(&data_memory, 0x5a);
        pieces[0] = (struct iovec){data_memory.base, 40 * below(3)};
        pieces[1].iov_base = (void *)some_address(&data_memory, 40, 20);
        pieces[1].iov_len = below(5) ? 40 : below(60);
        at = (uintptr_t)pieces[1].iov_base;
        snapshot_guarded(&data_memory);
        printf("%zu+%zu ", pieces[0].iov_len, pieces[1].iov_len);
        print_transfer("readv", queues[slot].name, readv(fd, pieces, 2), 2, at);
        break;
    case 0:
        printf("close %s -> %d\n", queues[slot].name, close(fd));
        queues[slot].fd = -1;
        break;
    case 1:
    case 2:
        name_descriptors();
        poll_queue(fd);
        break;
    case 3:
        printf("seek %s", queues[slot].name);
        whence = (int)below(3);
        print_result(lseek(fd, below(2) * 40, whence));
        printf("\n");
        break;
    case 4:
        fill_guarded(&data_memory, 0x5a);
        snapshot_guarded(&data_memory);
        at = (uintptr_t)data_memory.base;
        print_transfer("pread", queues[slot].name, pread(fd, data_memory.base, 40, below(2) * 40),
                       40, at);
        break;
    case 5:
    case 6:
    case 7:
    case 8:
    case 9:
        if (chance(20)) {
            count = below(130);
        } else {
            count = below(3) ? 40 : 4;
            count *= 1 + below(4);
        }
        if (chance(3))
            count = 1UL << (below(3) ? below(46) : 57 + below(7));
        fill_guarded(&data_memory, 0x5a);
        at = some_address(&data_memory, count, 15);
        snapshot_guarded(&data_memory);
        print_transfer("read", queues[slot].name, read(fd, (void *)at, count), count, at);
        break;
    default:
        count = chance(15) ? below(30) : 8 * (1 + below(3));
        fill_guarded(&data_memory, 0);
        for (unsigned i = 0; i != 3; i++) {
            responses[i].cookie = 1 + below(4);
            responses[i].code = chance(20);
            responses[i].code += chance(5);
        }
        at = some_address(&data_memory, count, 15);
        write_guarded(&data_memory, at, responses, sizeof(responses));
        snapshot_guarded(&data_memory);
        for (unsigned i = 0; i != 3; i++)
            printf("%u=%u ", responses[i].cookie, responses[i].code);
        print_transfer("write", queues[slot].name, write(fd, (void *)at, count), count, at);
    }
}

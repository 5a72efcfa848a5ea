/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtual units, what belongs to them, and the queues that faults and events are read from.
 */
#ifndef DIFFERENTIAL_UNITS_H
#define DIFFERENTIAL_UNITS_H

#include "state.h"

#include <sys/uio.h>

/* ---- virtual units and queues ------------------------------------------------------------- */

static void keep_queue(int fd)
{
    unsigned slot = below(COUNT(queues));

    if (queues[slot].fd >= 0) {
        printf("close %s -> %d\n", queues[slot].name, close(queues[slot].fd));
    }
    queues[slot].fd = fd;
}

static void do_fault_queue(void)
{
    struct iommu_fault_alloc cmd = {.size = sizeof(cmd)};

    if (TOLD(call(&FAULT_QUEUE_ALLOC, &cmd), struct iommu_fault_alloc, out_fault_fd)) {
        keep(FAULT, cmd.out_fault_id);
        keep_queue((int)cmd.out_fault_fd);
    }
}

static void do_viommu(void)
{
    struct iommu_viommu_selftest data = {.in_data = 0x1234, .out_data = 0x5678};
    struct iommu_viommu_alloc cmd = {.size = sizeof(cmd), .type = IOMMU_VIOMMU_TYPE_SELFTEST};

    cmd.dev_id = pick(IDEV);
    cmd.hwpt_id = pick(PARENT);
    clear_place(&data_place, 0);
    if (below(2)) {
        cmd.data_len = chance(15) ? below(64) : sizeof(data);
        cmd.data_uptr = some_data(&data, sizeof(data));
    }
    if (TOLD(call(&VIOMMU_ALLOC, &cmd), struct iommu_viommu_alloc, out_viommu_id))
        keep(VIOMMU, cmd.out_viommu_id);
}

static void do_vdevice(void)
{
    struct iommu_vdevice_alloc cmd = {.size = sizeof(cmd)};

    cmd.viommu_id = pick(VIOMMU);
    cmd.dev_id = pick(IDEV);
    cmd.virt_id = 0x50 + below(3);
    if (TOLD(call(&VDEVICE_ALLOC, &cmd), struct iommu_vdevice_alloc, out_vdevice_id))
        keep(VDEVICE, cmd.out_vdevice_id);
}

static void do_veventq(void)
{
    struct iommu_veventq_alloc cmd = {.size = sizeof(cmd), .type = IOMMU_VEVENTQ_TYPE_SELFTEST};

    cmd.viommu_id = pick(VIOMMU);
    cmd.veventq_depth = 1 + below(3);
    if (chance(10))
        cmd.type = 1 + below(3);
    if (chance(10))
        cmd.veventq_depth = (1u << 19) + below(2);
    if (TOLD(call(&VEVENTQ_ALLOC, &cmd), struct iommu_veventq_alloc, out_veventq_fd)) {
        keep(VEVENTQ, cmd.out_veventq_id);
        keep_queue((int)cmd.out_veventq_fd);
    }
}

static void do_hw_queue(void)
{
    struct iommu_hw_queue_alloc cmd = {
        .size = sizeof(cmd), .type = IOMMU_HW_QUEUE_TYPE_SELFTEST, .length = 0x800};

    cmd.viommu_id = pick(VIOMMU);
    cmd.index = below(3);
    cmd.nesting_parent_iova = some_iova();
    if (chance(20))
        cmd.nesting_parent_iova = cmd.nesting_parent_iova / PAGE * PAGE + below(0x801);
    if (TOLD(call(&HW_QUEUE_ALLOC, &cmd), struct iommu_hw_queue_alloc, out_hw_queue_id))
        keep(HWQUEUE, cmd.out_hw_queue_id);
}

static void do_iopf(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_TRIGGER_IOPF, 0);

    for (unsigned i = 1 + below(3); i; i--) {
        cmd.trigger_iopf.dev_id = pick(IDEV);
        cmd.trigger_iopf.pasid = below(2) ? some_pasid() : 0;
        cmd.trigger_iopf.grpid = below(3);
        cmd.trigger_iopf.perm = below(8);
        cmd.trigger_iopf.addr = below(16) * PAGE;
        cmd.size = sizeof(cmd);
        call(&TRIGGER_IOPF, &cmd);
    }
}

static void do_vevent(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_TRIGGER_VEVENT, 0);

    for (unsigned i = 1 + below(3); i; i--) {
        cmd.trigger_vevent.dev_id = pick(IDEV);
        cmd.size = sizeof(cmd);
        call(&TRIGGER_VEVENT, &cmd);
    }
}

static void transfer(const char *what, const char *name, long result, size_t count, uintptr_t at)
{
    const char *bar = " |";
    int error = errno;

    printf("%s %s %zu at ", what, name, count);
    print_pointer(at);
    errno = error;
    print_result(result);
    print_place_changes(&data_place, at, &bar);
    printf("\n");
}

static void use_queue(void)
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
        clear_place(&data_place, 0x5a);
        pieces[0] = (struct iovec){data_place.base, 40 * below(3)};
        pieces[1].iov_base = (void *)some_address(&data_place, 40, 20);
        pieces[1].iov_len = below(5) ? 40 : below(60);
        at = (uintptr_t)pieces[1].iov_base;
        remember_place(&data_place);
        printf("%zu+%zu ", pieces[0].iov_len, pieces[1].iov_len);
        transfer("readv", queues[slot].name, readv(fd, pieces, 2), 2, at);
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
        clear_place(&data_place, 0x5a);
        remember_place(&data_place);
        at = (uintptr_t)data_place.base;
        transfer("pread", queues[slot].name, pread(fd, data_place.base, 40, below(2) * 40), 40, at);
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
        clear_place(&data_place, 0x5a);
        at = some_address(&data_place, count, 15);
        remember_place(&data_place);
        transfer("read", queues[slot].name, read(fd, (void *)at, count), count, at);
        break;
    default:
        count = chance(15) ? below(30) : 8 * (1 + below(3));
        clear_place(&data_place, 0);
        for (unsigned i = 0; i != 3; i++) {
            responses[i].cookie = 1 + below(4);
            responses[i].code = chance(20);
            responses[i].code += chance(5);
        }
        at = some_address(&data_place, count, 15);
        put(&data_place, at, responses, sizeof(responses));
        remember_place(&data_place);
        for (unsigned i = 0; i != 3; i++)
            printf("%u=%u ", responses[i].cookie, responses[i].code);
        transfer("write", queues[slot].name, write(fd, (void *)at, count), count, at);
    }
}

#endif /* DIFFERENTIAL_UNITS_H */

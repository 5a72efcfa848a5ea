/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page requests of one device, and the queue in which it is asked for: what a request says, and answers.
 */
#ifndef PAGE_REQUESTS_H
#define PAGE_REQUESTS_H

#include "vfio/test_device.h"

#include <poll.h>

static struct test_device device;
static int queue;
static uint32_t queue_id;

static inline void open_queue(int iommufd)
{
    struct iommu_fault_alloc fault = {.size = sizeof(fault)};

    if (ioctl(iommufd, IOMMU_FAULT_QUEUE_ALLOC, &fault))
        give_up("FAULT_QUEUE_ALLOC: %s", strerror(errno));
    queue = (int)fault.out_fault_fd;
    queue_id = fault.out_fault_id;
}

static inline long answer(uint32_t cookie, uint32_t code)
{
    struct iommu_hwpt_page_response response = {.cookie = cookie, .code = code};

    return write(queue, &response, sizeof(response));
}

static inline bool is_waiting(void)
{
    struct pollfd poll_queue = {.fd = queue, .events = POLLIN};

    return poll(&poll_queue, 1, 0) == 1 && poll_queue.revents & POLLIN;
}

/** The next request is for this. Gives its cookie. */
static inline uint32_t expect_request(uint64_t address, uint32_t attributes,
                                      uint32_t permissions, bool is_last, const char *what)
{
    struct iommu_hwpt_pgfault fault = {0};
    uint32_t flags = (attributes & WITH_PASID ? IOMMU_PGFAULT_FLAGS_PASID_VALID : 0) |
                     (is_last ? IOMMU_PGFAULT_FLAGS_LAST_PAGE : 0);

    if (read(queue, &fault, sizeof(fault)) != sizeof(fault)) {
        check_number(0, sizeof(fault), "%s", what);
        return 0;
    }
    check_number(fault.addr, address, "%s: address", what);
    check_number(fault.perm, permissions, "%s: access", what);
    check_number(fault.flags, flags, "%s: flags", what);
    check_number(fault.pasid, attributes & 0xfffff, "%s: PASID", what);
    check_number(fault.dev_id, device.id, "%s: device", what);
    return fault.cookie;
}

static inline uint32_t status(void) { return device_load(&device, TEST_DEVICE_STATUS); }

#endif /* PAGE_REQUESTS_H */

/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/page_requests.h"

#include <poll.h>

static const struct test_device *device;
static int queue;

int open_request_queue(int iommufd, const struct test_device *the_device, uint32_t *queue_id)
{
    struct iommu_fault_alloc fault = {.size = sizeof(fault)};

    if (ioctl(iommufd, IOMMU_FAULT_QUEUE_ALLOC, &fault))
        fatal("FAULT_QUEUE_ALLOC: %s", strerror(errno));
    device = the_device;
    *queue_id = fault.out_fault_id;
    queue = (int)fault.out_fault_fd;
    return queue;
}

long answer_request(uint32_t cookie, uint32_t code)
{
    struct iommu_hwpt_page_response response = {.cookie = cookie, .code = code};

    return write(queue, &response, sizeof(response));
}

bool is_request_waiting(void)
{
    struct pollfd poll_queue = {.fd = queue, .events = POLLIN};

    return poll(&poll_queue, 1, 0) == 1 && poll_queue.revents & POLLIN;
}

uint32_t expect_request(uint64_t address, uint32_t attributes, uint32_t permissions, bool is_last,
                        const char *what)
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
    check_number(fault.dev_id, device->id, "%s: device", what);
    return fault.cookie;
}

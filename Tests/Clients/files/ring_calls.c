/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of io_uring(7) for the files of iommufd: reads, writes and polls of a queue and of the
 * device, and requests that neither has.
 */
#include "files/ring.h"
#include "mock/mock.h"

#include <poll.h>
#include <sys/uio.h>

static void request_on_every(int fd)
{
    static unsigned char bytes[64];
    struct iovec vector = {bytes, 7};

    ring_request("READ", IORING_OP_READ, fd, bytes, 8, 0);
    ring_request("READ at the position", IORING_OP_READ, fd, bytes, 8, -1);
    ring_request("WRITE", IORING_OP_WRITE, fd, bytes, 7, 0);
    ring_request("WRITEV", IORING_OP_WRITEV, fd, &vector, 1, 0);
    ring_request("FSYNC", IORING_OP_FSYNC, fd, NULL, 0, 0);
    ring_request("FALLOCATE", IORING_OP_FALLOCATE, fd, (void *)4096, 0, 0);
    ring_request("SYNC_FILE_RANGE", IORING_OP_SYNC_FILE_RANGE, fd, NULL, 4096, 0);
    ring_request("SEND", IORING_OP_SEND, fd, bytes, 7, 0);
    ring_request("RECV", IORING_OP_RECV, fd, bytes, 7, 0);
    ring_request("SHUTDOWN", IORING_OP_SHUTDOWN, fd, NULL, 2, 0);
}

static void poll_request(int fd, uint64_t tag)
{
    ring_put((struct io_uring_sqe){.opcode = IORING_OP_POLL_ADD, .fd = fd, .poll32_events = POLLIN},
        tag);
    ring_submit(1);
}

int main(void)
{
    struct iommu_hwpt_pgfault fault = {0};
    struct iommu_hwpt_page_response response = {0};
    struct mock_device device;
    uint32_t ioas, queue, table;
    int fd = -1;

    begin("the device");
    make_ring(0);
    request_on_every(iommufd);
    ioas = ioas_alloc();
    mock_domain(ioas, &device);
    section("a fault queue");
    queue = fault_queue_alloc("queue", &fd);
    table = hwpt_alloc_with(device.idev, ioas, FAULTS, 0, NULL, 0, queue);
    mock_replace(device.stdev, table);
    trigger_iopf(device.idev, 0, 0x1000);
    request_on_every(fd);
    ring_request("READ of a fault", IORING_OP_READ, fd, &fault, sizeof(fault), 0);
    printf("  addr=%#llx\n", (unsigned long long)fault.addr);
    response.cookie = fault.cookie;
    ring_request("WRITE of a response", IORING_OP_WRITE, fd, &response, sizeof(response), 0);
    ring_request("WRITE of it again", IORING_OP_WRITE, fd, &response, sizeof(response), 0);
    printf("POLL_ADD of an empty queue");
    fflush(stdout);
    poll_request(fd, 1);
    ring_complete(1);
    trigger_iopf(device.idev, 0, 0x2000);
    printf("  and a fault");
    ring_complete(1);
    printf("POLL_ADD of a queue with a fault");
    poll_request(fd, 2);
    ring_complete(2);
    ring_request("READ of the fault", IORING_OP_READ, fd, &fault, sizeof(fault), -1);
    printf("  addr=%#llx\n", (unsigned long long)fault.addr);
    return 0;
}

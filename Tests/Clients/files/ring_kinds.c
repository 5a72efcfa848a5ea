/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kinds of rings and of requests of io_uring(7) for the files of iommufd: wide entries, links,
 * drains, registered files and rings, a kernel thread that takes requests, multishot polls, opens.
 */
#include "files/ring.h"
#include "mock/mock.h"
#include "nodes.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/** IORING_OP_READ_MULTISHOT of Linux 6.7 */
enum { READ_MULTISHOT = 49 };

static struct mock_device device;
static struct iommu_hwpt_pgfault fault;
static int queue = -1;

static void make_fault(uint64_t address) { trigger_iopf(device.idev, 0, address); }

static struct io_uring_sqe transfer(int operation, void *memory, uint32_t length, int flags)
{
    return (struct io_uring_sqe){.opcode = operation, .fd = queue, .flags = flags,
                                 .addr = (uintptr_t)memory, .len = length};
}

/** Makes a fault, reads it, and returns the response to it. */
static struct iommu_hwpt_page_response response_to_new(uint64_t address)
{
    make_fault(address);
    if (read(queue, &fault, sizeof(fault)) != sizeof(fault))
        exit(2);
    return (struct iommu_hwpt_page_response){.cookie = fault.cookie};
}

static void test_links(void)
{
    struct iommu_hwpt_page_response response = response_to_new(0x1000);

    section("links");
    ring_put(transfer(IORING_OP_WRITE, &response, sizeof(response), IOSQE_IO_LINK), 1);
    ring_put(transfer(IORING_OP_WRITE, &response, sizeof(response), IOSQE_IO_LINK), 2);
    ring_put(transfer(IORING_OP_READ, &fault, sizeof(fault), 0), 3);
    printf("three linked, the second of which is refused\n");
    ring_submit(3);
    for (int i = 1; i != 4; i++) {
        printf("  %d", i);
        ring_complete(i);
    }
    response = response_to_new(0x2000);
    ring_put((struct io_uring_sqe){.opcode = IORING_OP_NOP, .flags = IOSQE_IO_LINK}, 1);
    ring_put(transfer(IORING_OP_WRITE, &response, sizeof(response), 0), 2);
    ring_submit(2);
    printf("a request that is no file's");
    ring_complete(1);
    printf("and WRITE of a response, linked");
    ring_complete(2);
    ring_put(transfer(IORING_OP_WRITE, &response, sizeof(response), 0), 1);
    ring_submit(1);
    printf("WRITE of it once more");
    ring_complete(1);
    response = response_to_new(0x3000);
    ring_put(transfer(IORING_OP_WRITE, &response, sizeof(response), IOSQE_IO_DRAIN), 1);
    ring_submit(1);
    printf("WRITE of a response, drained");
    ring_complete(1);
    ring_put(transfer(IORING_OP_WRITE, &response, sizeof(response), IOSQE_ASYNC), 1);
    ring_submit(1);
    printf("WRITE of it once more, asynchronous");
    ring_complete(1);
}

static void test_polls(void)
{
    section("a multishot poll");
    ring_put((struct io_uring_sqe){.opcode = IORING_OP_POLL_ADD, .fd = queue, .poll32_events = POLLIN,
                              .len = IORING_POLL_ADD_MULTI},
        7);
    ring_submit(1);
    for (int i = 0; i != 3; i++) {
        make_fault(0x4000 + i);
        printf("a fault");
        ring_complete(7);
    }
    printf("then");
    ring_complete(7);
    read_words(queue, buffer, 3 * sizeof(fault));
    make_fault(0x5000);
    printf("a fault");
    ring_complete(7);
    /* The order of the two completions depends on the version of the kernel. */
    ring_put((struct io_uring_sqe){.opcode = IORING_OP_POLL_REMOVE, .fd = -1, .addr = 7}, 7);
    ring_submit(1);
    ring_skip(2);
    read_words(queue, buffer, sizeof(fault));
    section("other requests");
    ring_request("READ_MULTISHOT", READ_MULTISHOT, queue, NULL, 0, 0);
    ring_request("URING_CMD", IORING_OP_URING_CMD, queue, NULL, 0, 0);
    ring_request("STATX", IORING_OP_STATX, AT_FDCWD, (void *)iommufd_path(), 0x7ff, (uintptr_t)buffer);
    ring_put((struct io_uring_sqe){.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .open_flags = O_RDWR,
                              .addr = (uintptr_t)iommufd_path()},
        1);
    ring_submit(1);
    printf("OPENAT");
    ring_complete(1);
}

static void test_registered(void)
{
    struct io_uring_rsrc_update own = {.offset = UINT32_MAX, .data = ring};
    struct io_uring_sqe read_fixed = transfer(IORING_OP_READ, &fault, sizeof(fault),
                                              IOSQE_FIXED_FILE);

    section("registered files and rings");
    printf("IORING_REGISTER_FILES");
    print_result(syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES, &queue, 1));
    printf("\n");
    make_fault(0x6000);
    read_fixed.fd = 0;
    ring_put(read_fixed, 1);
    ring_submit(1);
    printf("READ of the registered file");
    ring_complete(1);
    printf("IORING_REGISTER_RING_FDS");
    print_result(syscall(SYS_io_uring_register, ring, IORING_REGISTER_RING_FDS, &own, 1));
    printf("\n");
}

static void test_wide(void)
{
    struct iommu_hwpt_page_response response = response_to_new(0x7000);

    section("entries of 128 bytes");
    close(ring);
    make_ring(IORING_SETUP_SQE128 | IORING_SETUP_CQE32);
    ring_put((struct io_uring_sqe){.opcode = IORING_OP_NOP}, 1);
    ring_put(transfer(IORING_OP_WRITE, &response, sizeof(response), IOSQE_IO_LINK), 1);
    ring_put(transfer(IORING_OP_WRITE, &response, sizeof(response), 0), 1);
    ring_submit(3);
    printf("NOP");
    ring_complete(1);
    printf("WRITE of a response");
    ring_complete(1);
    printf("WRITE of it again");
    ring_complete(1);
}

static void test_empty(void)
{
    section("a read of an empty queue");
    read_words(queue, buffer, 4 * sizeof(fault));
    fcntl(queue, F_SETFL, O_NONBLOCK);
    ring_request("READ, O_NONBLOCK", IORING_OP_READ, queue, &fault, sizeof(fault), 0);
    fcntl(queue, F_SETFL, 0);
    ring_put(transfer(IORING_OP_READ, &fault, sizeof(fault), 0), 1);
    ring_submit(1);
    printf("READ");
    ring_complete(1);
    make_fault(0x8000);
    printf("and a fault");
    ring_complete(1);
}

static void test_thread(void)
{
    struct io_uring_params parameters = {.flags = IORING_SETUP_SQPOLL};
    int polled = syscall(SYS_io_uring_setup, 8, &parameters);
    void *memory = mmap(NULL, 512, PROT_READ | PROT_WRITE, MAP_SHARED, polled, IORING_OFF_SQES);

    section("IORING_SETUP_SQPOLL");
    printf("mmap of the entries");
    print_result(memory == MAP_FAILED ? -1 : 0);
    printf("\n");
}

int main(void)
{
    uint32_t ioas, id, table;

    part = "mock";
    begin("kinds of rings");
    make_buffer(2);
    make_ring(0);
    ioas = ioas_alloc();
    mock_domain(ioas, &device);
    id = fault_queue_alloc("queue", &queue);
    table = hwpt_alloc_with(device.idev, ioas, FAULTS, 0, NULL, 0, id);
    mock_replace(device.stdev, table);
    test_links();
    test_polls();
    test_registered();
    test_wide();
    test_thread();
    test_empty();
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of io_uring(7) for the files of iommufd: reads, writes and polls of a queue and of the
 * device, and requests that neither has.
 */
#include "mock/mock.h"

#include <linux/io_uring.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

enum { ENTRIES = 8 };

static struct io_uring_params parameters;
static int ring;
static unsigned char *queues;
static struct io_uring_sqe *entries;

static uint32_t *word(uint32_t offset) { return (uint32_t *)(queues + offset); }

static void make_ring(void)
{
    size_t size;

    ring = syscall(SYS_io_uring_setup, ENTRIES, &parameters);
    if (ring < 0)
        exit(2);
    size = parameters.cq_off.cqes + parameters.cq_entries * sizeof(struct io_uring_cqe);
    if (size < parameters.sq_off.array + ENTRIES * 4)
        size = parameters.sq_off.array + ENTRIES * 4;
    queues = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    entries = mmap(NULL, ENTRIES * sizeof(*entries), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
                   IORING_OFF_SQES);
    if (queues == MAP_FAILED || entries == MAP_FAILED)
        exit(2);
}

/** Puts a request into the queue, and submits it. */
static void submit(struct io_uring_sqe request, uint64_t tag)
{
    uint32_t *tail = word(parameters.sq_off.tail), index = *tail & (ENTRIES - 1);

    request.user_data = tag;
    entries[index] = request;
    word(parameters.sq_off.array)[index] = index;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, ring, 1, 0, 0, NULL, 0) != 1)
        printf("(not submitted) ");
}

/** Waits up to a second for a completion, and prints its result. */
static void complete(uint64_t tag)
{
    uint32_t *head = word(parameters.cq_off.head), *tail = word(parameters.cq_off.tail);
    struct io_uring_cqe *completion;

    for (int i = 0; i != 1000 && *head == __atomic_load_n(tail, __ATOMIC_ACQUIRE); i++)
        usleep(1000);
    if (*head == __atomic_load_n(tail, __ATOMIC_ACQUIRE)) {
        printf(" -> pending\n");
        return;
    }
    completion = (struct io_uring_cqe *)(queues + parameters.cq_off.cqes) +
                 (*head & (parameters.cq_entries - 1));
    if (completion->user_data != tag)
        printf(" (another request)");
    errno = -completion->res;
    print_result(completion->res < 0 ? -1 : completion->res);
    printf("\n");
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
}

static void request(const char *what, int operation, int fd, void *address, uint32_t length,
                    uint64_t offset)
{
    static uint64_t tag = 1000;

    printf("%s", what);
    fflush(stdout);
    submit((struct io_uring_sqe){.opcode = operation, .fd = fd, .addr = (uintptr_t)address,
                                 .len = length, .off = offset},
           ++tag);
    complete(tag);
}

static void request_on_every(int fd)
{
    static unsigned char bytes[64];
    struct iovec vector = {bytes, 7};

    request("READ", IORING_OP_READ, fd, bytes, 8, 0);
    request("READ at the position", IORING_OP_READ, fd, bytes, 8, -1);
    request("WRITE", IORING_OP_WRITE, fd, bytes, 7, 0);
    request("WRITEV", IORING_OP_WRITEV, fd, &vector, 1, 0);
    request("FSYNC", IORING_OP_FSYNC, fd, NULL, 0, 0);
    request("FALLOCATE", IORING_OP_FALLOCATE, fd, (void *)4096, 0, 0);
    request("SYNC_FILE_RANGE", IORING_OP_SYNC_FILE_RANGE, fd, NULL, 4096, 0);
    request("SEND", IORING_OP_SEND, fd, bytes, 7, 0);
    request("RECV", IORING_OP_RECV, fd, bytes, 7, 0);
    request("SHUTDOWN", IORING_OP_SHUTDOWN, fd, NULL, 2, 0);
}

static void poll_request(int fd, uint64_t tag)
{
    submit((struct io_uring_sqe){.opcode = IORING_OP_POLL_ADD, .fd = fd, .poll32_events = POLLIN},
           tag);
}

int main(void)
{
    struct iommu_hwpt_pgfault fault = {0};
    struct iommu_hwpt_page_response response = {0};
    struct mock_device device;
    uint32_t ioas, queue, table;
    int fd = -1;

    begin("the device");
    make_ring();
    request_on_every(iommufd);
    ioas = ioas_alloc();
    mock_domain(ioas, &device);
    section("a fault queue");
    queue = fault_queue_alloc("queue", &fd);
    table = hwpt_alloc_with(device.idev, ioas, FAULTS, 0, NULL, 0, queue);
    mock_replace(device.stdev, table);
    trigger_iopf(device.idev, 0, 0x1000);
    request_on_every(fd);
    request("READ of a fault", IORING_OP_READ, fd, &fault, sizeof(fault), 0);
    printf("  addr=%#llx\n", (unsigned long long)fault.addr);
    response.cookie = fault.cookie;
    request("WRITE of a response", IORING_OP_WRITE, fd, &response, sizeof(response), 0);
    request("WRITE of it again", IORING_OP_WRITE, fd, &response, sizeof(response), 0);
    printf("POLL_ADD of an empty queue");
    fflush(stdout);
    poll_request(fd, 1);
    complete(1);
    trigger_iopf(device.idev, 0, 0x2000);
    printf("  and a fault");
    complete(1);
    printf("POLL_ADD of a queue with a fault");
    poll_request(fd, 2);
    complete(2);
    request("READ of the fault", IORING_OP_READ, fd, &fault, sizeof(fault), -1);
    printf("  addr=%#llx\n", (unsigned long long)fault.addr);
    return 0;
}

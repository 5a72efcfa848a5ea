/* SPDX-License-Identifier: Apache-2.0 */
#include "files/ring.h"
#include "transcript/transcript.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int ring = -1;

static struct io_uring_params parameters;
static unsigned char *queues, *entries;

static uint32_t *word(uint32_t offset) { return (uint32_t *)(queues + offset); }

static size_t entry_size(void) { return parameters.flags & IORING_SETUP_SQE128 ? 128 : 64; }

static size_t completion_size(void) { return parameters.flags & IORING_SETUP_CQE32 ? 32 : 16; }

void make_ring(uint32_t flags)
{
    size_t size;

    parameters = (struct io_uring_params){.flags = flags};
    ring = syscall(SYS_io_uring_setup, RING_ENTRIES, &parameters);
    if (ring < 0)
        exit(2);
    size = parameters.cq_off.cqes + parameters.cq_entries * completion_size();
    if (size < parameters.sq_off.array + RING_ENTRIES * 4)
        size = parameters.sq_off.array + RING_ENTRIES * 4;
    queues = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    entries = mmap(NULL, RING_ENTRIES * entry_size(), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
                   IORING_OFF_SQES);
    if (queues == MAP_FAILED || entries == MAP_FAILED)
        exit(2);
}

void ring_put(struct io_uring_sqe request, uint64_t tag)
{
    uint32_t *tail = word(parameters.sq_off.tail), index = *tail & (RING_ENTRIES - 1);

    request.user_data = tag;
    *(struct io_uring_sqe *)(entries + index * entry_size()) = request;
    word(parameters.sq_off.array)[index] = index;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
}

void ring_submit(uint32_t count)
{
    long result = syscall(SYS_io_uring_enter, ring, count, 0, 0, NULL, 0);

    if (result != (long)count)
        printf("(%ld submitted) ", result);
}

/** Returns the next completion, once there is one within a second. */
static struct io_uring_cqe *next_completion(void)
{
    uint32_t *head = word(parameters.cq_off.head), *tail = word(parameters.cq_off.tail);

    for (int i = 0; i != 1000 && *head == __atomic_load_n(tail, __ATOMIC_ACQUIRE); i++)
        usleep(1000);
    if (*head == __atomic_load_n(tail, __ATOMIC_ACQUIRE))
        return NULL;
    return (struct io_uring_cqe *)(queues + parameters.cq_off.cqes +
                                   (*head & (parameters.cq_entries - 1)) * completion_size());
}

static void take_completion(void)
{
    uint32_t *head = word(parameters.cq_off.head);

    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
}

void ring_complete(uint64_t tag)
{
    struct io_uring_cqe *completion = next_completion();

    if (!completion) {
        printf(" -> pending\n");
        return;
    }
    if (completion->user_data != tag)
        printf(" (another request)");
    errno = -completion->res;
    print_result(completion->res < 0 ? -1 : completion->res);
    printf("%s\n", completion->flags & IORING_CQE_F_MORE ? " and more" : "");
    take_completion();
}

void ring_skip(int count)
{
    while (count-- && next_completion())
        take_completion();
}

void ring_request(const char *what, int operation, int fd, void *address, uint32_t length,
             uint64_t offset)
{
    static uint64_t tag = 1000;

    printf("%s", what);
    fflush(stdout);
    ring_put((struct io_uring_sqe){.opcode = operation, .fd = fd, .addr = (uintptr_t)address,
                              .len = length, .off = offset},
        ++tag);
    ring_submit(1);
    ring_complete(tag);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* An io_uring(7), by bare system calls. Its results are printed. */
#ifndef RING_H
#define RING_H

#include <stdint.h>

#include <linux/io_uring.h>

enum { RING_ENTRIES = 8 };

/** The descriptor of the ring. */
extern int ring;

/** Makes the ring, with IORING_SETUP_ flags. Exits with status 2 when there is none. */
void make_ring(uint32_t flags);

/** Puts a request into the queue. Its user_data becomes `tag`. */
void ring_put(struct io_uring_sqe request, uint64_t tag);

/** Submits requests. Prints the result when it is not `count`. */
void ring_submit(uint32_t count);

/** Waits up to a second for a completion, and prints its result. */
void ring_complete(uint64_t tag);

/** Waits up to a second for each of `count` completions, whose results are not printed. */
void ring_skip(int count);

/** Prints `what`, makes a request and prints its result. */
void ring_request(const char *what, int operation, int fd, void *address, uint32_t length,
             uint64_t offset);

#endif /* RING_H */

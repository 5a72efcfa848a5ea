/* SPDX-License-Identifier: Apache-2.0 */
/* The requests of the test device (Tests/FrontTestServer/TestRequest.swift). */
#ifndef TEST_REQUESTS_H
#define TEST_REQUESTS_H

#include <stdint.h>

/**
 * The argument of all requests but TEST_EXCHANGE and TEST_NULL. "Answers" in a comment below is
 * what the device stores in `value`.
 */
struct test_argument {
    uint32_t size;
    uint32_t value;
    uint64_t pointer;
    uint64_t length;
};

enum {
    TEST_ECHO = 0x3bd0,       /* answers value + 1 */
    TEST_OPEN_ID = 0x3bd1,    /* answers the number of this open file, counted from 1 */
    TEST_IDENTIFY = 0x3bd2,   /* answers the OPEN_ID of file descriptor value, or TEST_A_QUEUE;
                                 ENODEV for a file of another server */
    TEST_MAKE_QUEUE = 0x3bd3, /* answers the file descriptor of a new queue, and stores its ID in
                                 length; the queue is writable when bit 0 of value is set */
    TEST_PUSH = 0x3bd4,       /* adds length records that hold pointer to queue value */
    TEST_SLEEP = 0x3bd5,      /* sleeps for value milliseconds */
    TEST_SUM = 0x3bd6,        /* answers the sum of length bytes at pointer */
    TEST_FILL = 0x3bd7,       /* stores value in length bytes at pointer */
    TEST_KEEP = 0x3bd8,       /* keeps file descriptor value until this file is released */
    TEST_RETURN = 0x3bd9,     /* returns value as the ioctl's result */
    TEST_COUNT_OPEN = 0x3bda, /* answers the number of open files, and stores that of open queues in
                                 length */
    TEST_COUNT = 0x3bdb,      /* waits for value microseconds, then answers how many such requests
                                 this open file has had */
    TEST_POKE = 0x3bdc,       /* answers how many bytes it could write to file descriptor value; it
                                 writes one, '!' */
    TEST_WRITTEN = 0x3bdd,    /* answers the sum of all numbers written to queues */
    TEST_IS_MAPPED = 0x3bde,  /* answers whether a process maps a part of the region */
    TEST_RENEW_REGION = 0x3bdf, /* replaces the region by a new one */
    TEST_EXCHANGE = 0x3be0,     /* reads 48 bytes and stores 16 bytes after them, as IOMMU_IOAS_MAP */
    TEST_NULL = 0x3be1,         /* does nothing */
    TEST_UNKNOWN = 0x3bff,      /* is no request of the device */
};

/** The answer to TEST_IDENTIFY for a queue. */
#define TEST_A_QUEUE 0xffffffff

struct test_exchange {
    uint64_t in[6];
    uint64_t out[2]; /* in[0] + in[5], and 1 */
};

/** A record of a queue. A read must be a multiple of its size; a write must have 4 bytes. */
struct test_record {
    uint64_t number; /* counted from 0 in each queue */
    uint64_t value;
};

/** The region of the main node. It holds the OPEN_ID of the open file, and zeros. */
#define TEST_MAP_OFFSET 0x10000
#define TEST_MAP_LENGTH 0x2000

/** The offset of VFIO region `index`. */
#define TEST_REGION(index) ((uint64_t)((index) + 1) << 40)

/** An offset of the offsets node at which reads and writes fail with EINVAL. */
#define TEST_REFUSED_OFFSET (200ull << 40)

/** Returns the byte that the offsets node has at an offset. Writing another byte fails with EIO. */
static inline unsigned char test_byte(uint64_t offset)
{
    return (offset * 0x9e3779b97f4a7c15ull) >> 56;
}

#endif /* TEST_REQUESTS_H */

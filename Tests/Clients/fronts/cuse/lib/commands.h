/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the device that Tests/CUSETestServer serves. */
#pragma once
#include <linux/types.h>

struct cuse_test {
    __u32 size;
    __u32 value;
    __u64 pointer;
    __u64 length;
};

#define CUSE_TEST_ECHO 0x3bd0     /* value + 1 */
#define CUSE_TEST_OPEN_ID 0x3bd1  /* value: the number of this open */
#define CUSE_TEST_IDENTIFY 0x3bd2 /* value: fd -> its OPEN_ID; ENODEV for other files */
#define CUSE_TEST_QUEUE 0x3bd3    /* value: a new queue's fd */
#define CUSE_TEST_PUSH 0x3bd4     /* value records of 16 bytes go to the newest queue */
#define CUSE_TEST_SLEEP 0x3bd5    /* value milliseconds */
#define CUSE_TEST_SUM 0x3bd6      /* value: the sum of length bytes at pointer */
#define CUSE_TEST_FILL 0x3bd7     /* stores value in length bytes at pointer */
#define CUSE_TEST_KEEP 0x3bd8     /* keeps a copy of fd value until this open is released */
#define CUSE_TEST_RETURN 0x3bd9   /* returns value */
#define CUSE_TEST_ALIVE 0x3bda    /* value: open files, length: queues, of the whole server */

#define CUSE_TEST_COUNT 0x3bdb    /* value: how often this open was asked */

/* The byte that the memory node has at each offset. */
static inline unsigned char cuse_test_byte(__u64 offset)
{
    return (offset * 0x9e3779b97f4a7c15ull) >> 56;
}

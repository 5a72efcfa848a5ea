/* SPDX-License-Identifier: Apache-2.0 */
/* The requests of the device that Tests/CUSETestServer serves. */
#ifndef CUSE_COMMANDS_H
#define CUSE_COMMANDS_H

#include <linux/types.h>

struct cuse_test {
    __u32 size;
    __u32 value;
    __u64 pointer;
    __u64 length;
};

#define CUSE_TEST_ECHO 0x3bd0     /* answers value + 1 */
#define CUSE_TEST_OPEN_ID 0x3bd1  /* answers the number of this open file */
#define CUSE_TEST_IDENTIFY 0x3bd2 /* answers the OPEN_ID of file descriptor value; ENODEV */
#define CUSE_TEST_QUEUE 0x3bd3    /* answers the file descriptor of a new queue */
#define CUSE_TEST_PUSH 0x3bd4     /* adds value records of 16 bytes to the newest queue */
#define CUSE_TEST_SLEEP 0x3bd5    /* sleeps for value milliseconds */
#define CUSE_TEST_SUM 0x3bd6      /* answers the sum of length bytes at pointer */
#define CUSE_TEST_FILL 0x3bd7     /* stores value in length bytes at pointer */
#define CUSE_TEST_KEEP 0x3bd8     /* keeps file descriptor value until this file is released */
#define CUSE_TEST_RETURN 0x3bd9   /* returns value as the ioctl's result */
#define CUSE_TEST_ALIVE 0x3bda    /* answers the open files (value) and queues (length) */
#define CUSE_TEST_COUNT 0x3bdb    /* answers how many such requests this open file has had */

/** Returns the byte that the memory node has at an offset. */
static inline unsigned char cuse_test_byte(__u64 offset)
{
    return (offset * 0x9e3779b97f4a7c15ull) >> 56;
}

#endif /* CUSE_COMMANDS_H */

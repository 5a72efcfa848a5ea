/* SPDX-License-Identifier: Apache-2.0 */
/* The requests of the test device (Tests/LauncherTestServer/TestDevice.swift). */
#ifndef TEST_REQUESTS_H
#define TEST_REQUESTS_H

#include <stdint.h>

enum {
    TEST_IDENTIFY = 0x3bf0,
    TEST_COUNT = 0x3bf1,
    TEST_EXCHANGE = 0x3bf2,
    TEST_MAKE_QUEUE = 0x3bf3,
    TEST_PUSH = 0x3bf4,
    TEST_LIVE = 0x3bf5,
    TEST_IDENTIFY_OTHER = 0x3bf6,
    TEST_POKE = 0x3bf7,
    TEST_NULL = 0x3bf8,
    TEST_WRITTEN = 0x3bf9,
    TEST_IS_MAPPED = 0x3bfa,
    TEST_RENEW_REGION = 0x3bfb,
};

/** The region that can be mapped. It holds the number of the open file, and zeros. */
#define TEST_MAP_OFFSET 0x10000
#define TEST_MAP_LENGTH 0x2000

/** The answer to TEST_IDENTIFY_OTHER for a queue. */
#define TEST_A_QUEUE 0xffff

struct test_exchange {
    uint64_t in[6];
    uint64_t out[2];
};

struct test_queue {
    uint32_t flags; /* bit 0: writable */
    int32_t fd;
    uint32_t id;
};

struct test_push {
    uint32_t id;
    uint32_t value;
};

/** The offset of device region `index`. */
#define TEST_REGION(index) ((uint64_t)((index) + 1) << 40)

#endif /* TEST_REQUESTS_H */

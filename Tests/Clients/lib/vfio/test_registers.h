/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers of the test devices (1234:11e9). Those from 0x10 on are the simulator's own.
 */
#ifndef TEST_REGISTERS_H
#define TEST_REGISTERS_H

enum {
    TEST_DEVICE_ADDRESS = 0x0,
    TEST_DEVICE_COMMAND = 0x8,
    TEST_DEVICE_ATTRIBUTES = 0x10, /* a PASID in bits 19:0, and bit 31: with it */
    TEST_DEVICE_STATUS = 0x14,
    TEST_DEVICE_COUNT = 0x18,
};

/** TEST_DEVICE_COMMAND */
enum { RUN = 1 << 0, FROM_MEMORY = 1 << 1 };

/** TEST_DEVICE_STATUS */
enum { RUNNING = 0, COMPLETED = 1, FAULTED = 2, ABORTED = 3, DENIED = 4, NOT_ISSUED = 5 };

#endif /* TEST_REGISTERS_H */

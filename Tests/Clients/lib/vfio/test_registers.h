/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers of the test devices (1234:11e9) in BAR 0. Those from 0x10 on are an addition of the
 * simulator.
 */
#ifndef TEST_REGISTERS_H
#define TEST_REGISTERS_H

enum {
    TEST_DEVICE_ADDRESS = 0x0,
    TEST_DEVICE_COMMAND = 0x8,
    TEST_DEVICE_ATTRIBUTES = 0x10, /* bits 19:0: PASID; bit 31: the PASID is valid */
    TEST_DEVICE_STATUS = 0x14,
    TEST_DEVICE_COUNT = 0x18,
};

/** Bits of TEST_DEVICE_COMMAND. */
enum { RUN = 1 << 0, FROM_MEMORY = 1 << 1 };

/** Values of TEST_DEVICE_STATUS. */
enum { RUNNING = 0, COMPLETED = 1, FAULTED = 2, ABORTED = 3, DENIED = 4, NOT_ISSUED = 5 };

#endif /* TEST_REGISTERS_H */

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fault queue with the page requests of one device: checks of the requests, and answers to them.
 */
#ifndef PAGE_REQUESTS_H
#define PAGE_REQUESTS_H

#include "vfio/test_device.h"

/**
 * Allocates the fault queue and stores its ID. All requests must be of `device`. Returns the file
 * descriptor.
 */
int open_request_queue(int iommufd, const struct test_device *device, uint32_t *queue_id);

/** Returns whether the queue can be read. */
bool is_request_waiting(void);

/**
 * Reads a request and checks that it has these fields. Returns its cookie, or 0 when there was no
 * request.
 */
uint32_t expect_request(uint64_t address, uint32_t attributes, uint32_t permissions, bool is_last,
                        const char *what);

/** Answers a request. Returns write()'s result. */
long answer_request(uint32_t cookie, uint32_t code);

#endif /* PAGE_REQUESTS_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* The tests that every front end passes. */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include "../lib/front_client.h"

void test_identity(void);
void test_release(void);
void test_numbers(void);
void test_descriptors(void);
void test_chain(void);
void test_arguments(void);
void test_pointers(void);
void test_offsets(void);
void test_split(void);
void test_queue(void);
void test_epoll(void);
void test_long_queue(void);
void test_refused_queue(void);
void test_queue_callers(void);
void test_threads(void);
void test_compat(void);

/** Returns the number that the next queue of this process gets. `fd` is an open file. */
int next_queue_number(int fd);

#endif /* CONFORMANCE_H */

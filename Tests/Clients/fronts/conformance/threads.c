/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of several threads at once, on open files of their own and on a shared one. */
#include "conformance.h"

enum { THREADS = 8 };

/** Returns the rounds of each thread. CUSE runs in a virtual machine without KVM. */
static int rounds(void)
{
    return front() == CUSE ? 20 : 300;
}

static void *call_often(void *argument)
{
    int shared = *(int *)argument, fd = open_node();
    long id = open_id(fd), bad = 0;

    for (int i = 0; i < rounds(); i++) {
        int other = open_node();
        bad += open_id(fd) != id || open_id(other) == id;
        close(other);
        bad += request(shared, TEST_COUNT, 0) <= 0;
        bad += request(shared, TEST_ECHO, i) != i + 1;
        if (i % 4 == 0) {
            int queue = make_queue(shared, false, NULL);
            bad += queue < 0;
            close(queue);
        }
    }
    close(fd);
    return (void *)bad;
}

void test_threads(void)
{
    int fd = open_node();
    long before = count_open(fd), count = request(fd, TEST_COUNT, 0);

    in_threads(THREADS, call_often, &fd);
    CHECK(request(fd, TEST_COUNT, 0) == count + THREADS * rounds() + 1);
    CHECK(count_open(fd) == before);
    close(fd);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors of the client that a request names: the device finds the open file behind them, or
 * gets a copy of them. */
#include "conformance.h"

void test_descriptors(void)
{
    int a = open_node(), b = open_node(), copy = dup(a), queue = make_queue(a, false, NULL);
    int null = open("/dev/null", O_RDWR), pipes[2];
    long id = open_id(a);

    CHECK(request(b, TEST_IDENTIFY, a) == id);
    CHECK(request(b, TEST_IDENTIFY, copy) == id);
    CHECK(request(b, TEST_IDENTIFY, b) == open_id(b));
    CHECK(request(b, TEST_IDENTIFY, queue) == TEST_A_QUEUE);
    int offsets = open_offsets_node();
    CHECK(request(b, TEST_IDENTIFY, offsets) == open_id(offsets));
    close(offsets);
    close(queue);

    CHECK(pipe(pipes) == 0);
    CHECK_ERRNO(request(b, TEST_IDENTIFY, null), ENODEV);
    CHECK_ERRNO(request(b, TEST_IDENTIFY, pipes[0]), ENODEV);
    CHECK_ERRNO(request(b, TEST_IDENTIFY, 999), EBADF);
    CHECK_ERRNO(request(b, TEST_IDENTIFY, -1), EBADF);
    CHECK_ERRNO(ioctl(null, TEST_NULL, 0), ENOTTY);
    close(null);
    CHECK_ERRNO(request(b, TEST_IDENTIFY, null), EBADF);

    /* The device gets a copy of a descriptor, but not of one of its own server's files. */
    CHECK(request(b, TEST_POKE, pipes[1]) == 1);
    char byte = 0;
    CHECK(read(pipes[0], &byte, 1) == 1 && byte == '!');
    CHECK_ERRNO(request(b, TEST_POKE, 999), EBADF);
    CHECK(request(b, TEST_POKE, a) != 1);
    close(pipes[0]);
    close(pipes[1]);

    CHECK_ERRNO(ioctl(a, 0x5349, 0), ENOTTY); /* a private request of the CUSE server */
    int no = 0;
    CHECK(ioctl(a, FIONBIO, &no) == 0 && ioctl(copy, FIOCLEX) == 0);
    CHECK(fcntl(copy, F_GETFD) == FD_CLOEXEC);
    close(a);
    close(b);
    close(copy);
}

static bool settles_at(int fd, long expected)
{
    for (int i = 0; i < 400 && count_open(fd) != expected; i++)
        usleep(50000);
    return count_open(fd) == expected;
}

/**
 * A device that keeps a file of its own server does not keep the file open, however long the chain
 * is.
 */
void test_chain(void)
{
    int fd = open_node(), last = open_node();
    long before = count_open(fd);

    for (int i = 1; i < 300; i++) {
        int next = open_node();
        CHECK(request(next, TEST_KEEP, last) >= 0);
        close(last);
        last = next;
    }
    CHECK(settles_at(fd, before));
    close(last);
    CHECK(settles_at(fd, before - 1));
    close(fd);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Prints microseconds per operation, to compare versions on one machine. */
#include <time.h>

#include "../lib/front_client.h"

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

#define TIME(what, rounds, ...)                                                \
    do {                                                                       \
        double start = now();                                                  \
        for (int i = 0; i < (rounds); i++) {                                   \
            __VA_ARGS__;                                                       \
        }                                                                      \
        printf("latency: %-28s %8.1f us\n", what, (now() - start) / (rounds)); \
    } while (0)

int main(void)
{
    unsigned value;
    int fd = open_node();

    int offsets = open_offsets_node();
    TIME("ioctl without argument", 2000, ioctl(fd, TEST_UNKNOWN, 0));
    TIME("ioctl, struct in and out", 2000, request(fd, TEST_ECHO, i));
    TIME("ioctl that identifies an fd", 500, request(fd, TEST_IDENTIFY, fd));
    TIME("ioctl that makes an fd, close", 300, close(make_queue(fd, false, NULL)));
    TIME("pread of 4 bytes", 1000, if (pread(offsets, &value, 4, 1l << 42) != 4) return 1);
    TIME("open and close", 500, close(open_node()));
    return 0;
}

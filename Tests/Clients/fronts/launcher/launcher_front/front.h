/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of launcher_front share. */
#ifndef LAUNCHER_FRONT_H
#define LAUNCHER_FRONT_H

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../test_requests.h"

#define IOMMU "/dev/iommu"
#define VFIO "/dev/vfio/devices/vfio0"

static const char *self;
static bool failed;
/* Why the test that runs cannot be made here. */
static const char *skipped;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("  %s:%d: %s (errno %s)\n", strrchr("/" __FILE__, '/') + 1, __LINE__,           \
                   #condition, strerror(errno));                                                   \
            failed = true;                                                                         \
        }                                                                                          \
    } while (0)
#define CHECK_ERRNO(call, expected)                                                                \
    do {                                                                                           \
        errno = 0;                                                                                 \
        long result_ = (call);                                                                     \
        CHECK(result_ == -1 && errno == (expected));                                               \
    } while (0)

static int device(void) { return open(IOMMU, O_RDWR | O_CLOEXEC); }
static int identify(int fd) { return ioctl(fd, TEST_IDENTIFY); }
static int live(int fd) { return ioctl(fd, TEST_LIVE); }

/* Runs `body` in a child; true when it returned true. */
static bool in_child(bool (*body)(int), int argument)
{
    pid_t child = fork();
    if (child == 0)
        _exit(body(argument) ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Runs `body` in so many threads at once; each gives how much of it went wrong. */
static void in_threads(int count, void *(*body)(void *), void *argument)
{
    pthread_t threads[count];
    for (int i = 0; i < count; i++)
        CHECK(pthread_create(&threads[i], NULL, body, argument) == 0);
    for (int i = 0; i < count; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        CHECK(bad == NULL);
    }
}

#endif /* LAUNCHER_FRONT_H */

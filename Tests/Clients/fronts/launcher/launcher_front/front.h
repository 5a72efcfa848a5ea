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

/** The path of this program. */
extern const char *self;
/** Whether a check of the current test has failed. */
extern bool failed;
/** Why the current test cannot run on this machine, or NULL. */
extern const char *skipped;

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

int open_iommu(void);

/** Returns the number that the server has given the open file, from 1. */
int identify(int fd);

/** Returns how many files are open in the server. */
int count_live_files(int fd);

/** Returns whether the open succeeds and opens a node of the server. Closes the file. */
bool is_node_at(const char *path, int flags);

/** Sends a record to a queue. Returns the ioctl's result. */
int push(int fd, struct test_queue *queue, uint32_t value);

/**
 * Calls `body` in a child process. Returns what it returned, or false when the child did not exit.
 */
bool in_child(bool (*body)(int), int argument);

/**
 * Calls `body` in `count` threads at once. Checks that each returns NULL, which stands for no
 * failure.
 */
void in_threads(int count, void *(*body)(void *), void *argument);

void test_identity(void);
void test_release(void);
void test_paths(void);
void test_status(void);
void test_memory(void);
void test_offsets(void);
void test_mappings(void);
void test_kvm(void);
void test_queue(void);
void test_epoll(void);
void test_queue_limits(void);
void test_threads(void);
void test_signals(void);

#endif /* LAUNCHER_FRONT_H */

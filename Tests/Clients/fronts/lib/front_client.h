/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the clients of the test device (Tests/FrontTestServer) share: opening its nodes, its
 * requests, counted checks, and programs that consist of named tests.
 *
 * Environment:
 *   FRONT               the front end: launcher or cuse
 *   TEST_NODE           the main node, /dev/iommu by default
 *   TEST_OFFSETS_NODE   the offsets node, /dev/vfio/devices/vfio0 by default
 */
#ifndef FRONT_CLIENT_H
#define FRONT_CLIENT_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <unistd.h>

#include "test_requests.h"

/* ---- checks ----------------------------------------------------------------------------- */

/** The number of checks, and of those that have failed. */
extern int checks, failures;

/** Counts a check, and prints the message when it has failed. May be called by several threads. */
__attribute__((format(printf, 2, 3))) void check(int ok, const char *format, ...);

/** Checks that the call fails with this errno. */
#define CHECK_ERRNO(call, number)                                                           \
    do {                                                                                    \
        errno = 0;                                                                          \
        long result_ = (call);                                                              \
        check(result_ == -1 && errno == (number), "%s:%d: %s: result %ld errno %d, not %s", \
              __FILE__, __LINE__, #call, result_, errno, #number);                          \
    } while (0)

#define CHECK(condition) \
    check(condition, "%s:%d: %s (errno %d)", __FILE__, __LINE__, #condition, errno)

/** Prints the counts. Returns the exit status: 1 when a check has failed. */
int print_totals(const char *name);

/* ---- the test device -------------------------------------------------------------------- */

/** The front end that serves the device. */
enum front { LAUNCHER, CUSE };

/** Returns the front end that $FRONT names. Exits with status 64 when it names none. */
enum front front(void);

/** Returns the path of the main node. */
const char *node_path(void);

/** Returns the path of the offsets node. */
const char *offsets_path(void);

/** Opens the main node with O_CLOEXEC. Exits with status 2 when it cannot be opened. */
int open_node(void);

/** Opens the offsets node with O_CLOEXEC. Exits with status 2 when it cannot be opened. */
int open_offsets_node(void);

/** Issues a request with a value. Returns the value of the answer, or -1 and errno. */
long request(int fd, unsigned long number, uint32_t value);

/** Returns the number that the server has given the open file, or -1 and errno. */
long open_id(int fd);

/** Returns how many files and queues are open in the server. */
long count_open(int fd);

/**
 * Makes a queue. Returns its file descriptor, or -1 and errno. Stores the queue's ID at `id` unless
 * that is NULL.
 */
int make_queue(int fd, bool is_writable, uint32_t *id);

/** Adds `count` records that hold `value` to a queue. Returns the ioctl's result. */
int push(int fd, uint32_t id, uint64_t count, uint64_t value);

/* ---- processes, threads and tests ------------------------------------------------------- */

/** Waits for a child process. Returns its wait status. */
int wait_for(pid_t child);

/**
 * Calls `body` in a child process. Returns what it returned, or false when the child did not exit.
 */
bool in_child(bool (*body)(int), int argument);

/**
 * Calls `body` in `count` threads at once. Checks that each returns NULL, which stands for no
 * failure.
 */
void in_threads(int count, void *(*body)(void *), void *argument);

struct test {
    const char *name;
    void (*run)(void);
};

/** The path of this program, once run_tests() is called. */
extern const char *self;

/** Why the current test, or a part of it, cannot run on this machine. NULL when it can. */
extern const char *skipped;

/**
 * Runs the tests that the arguments name, or all tests, and prints a line for each. Returns the
 * exit status: 1 when a check has failed, 64 when there is no test of a name.
 */
int run_tests(const struct test *tests, size_t count, int argc, char **argv);

#endif /* FRONT_CLIENT_H */

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the clients of the CUSE test device share: opening the node, its requests, and counted
 * checks.
 */
#ifndef CUSE_CLIENT_H
#define CUSE_CLIENT_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "commands.h"

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

/** Returns the path of the test device's node, $CUSE_TEST_NODE or /dev/cuse-test. */
const char *node_path(void);

/** Opens the node. Exits with status 2 when it cannot be opened. */
int open_node(void);

/** Issues a request with a value. Returns the value of the answer, or -1 and errno. */
long request(int fd, unsigned long command, __u32 value);

#endif /* CUSE_CLIENT_H */

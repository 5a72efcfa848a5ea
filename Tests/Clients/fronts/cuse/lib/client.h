/* SPDX-License-Identifier: Apache-2.0 */
/* What the clients of the CUSE test device share: opening it, asking it, and counting results. */
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "commands.h"

static int checks, failures;

/* One checked fact. Passed ones are only counted. */
static inline void check(int ok, const char *format, ...)
{
    va_list arguments;

    __atomic_add_fetch(&checks, 1, __ATOMIC_RELAXED);
    if (ok)
        return;
    __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
    va_start(arguments, format);
    fputs("FAILED: ", stdout);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

/* The call failed with this errno. */
#define CHECK_ERRNO(call, number)                                                           \
    do {                                                                                    \
        errno = 0;                                                                          \
        long result_ = (call);                                                              \
        check(result_ == -1 && errno == (number), "%s:%d: %s: result %ld errno %d, not %s", \
              __FILE__, __LINE__, #call, result_, errno, #number);                          \
    } while (0)

#define CHECK(condition) \
    check(condition, "%s:%d: %s (errno %d)", __FILE__, __LINE__, #condition, errno)

static inline int finish(const char *name)
{
    printf("%s: %d checks, %d failed\n", name, checks, failures);
    return failures ? 1 : 0;
}

static const char *node(void)
{
    const char *path = getenv("CUSE_TEST_NODE");

    return path ? path : "/dev/cuse-test";
}

static inline int open_node(void)
{
    int fd = open(node(), O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        perror(node());
        exit(2);
    }
    return fd;
}

/* A command with a value in and out; -1 and errno when it fails. */
static inline long ask(int fd, unsigned long command, __u32 value)
{
    struct cuse_test argument = {.size = sizeof(argument), .value = value};

    if (ioctl(fd, command, &argument) < 0)
        return -1;
    return argument.value;
}

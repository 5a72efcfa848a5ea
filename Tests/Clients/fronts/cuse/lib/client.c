/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"

int checks, failures;

void check(int ok, const char *format, ...)
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

int print_totals(const char *name)
{
    printf("%s: %d checks, %d failed\n", name, checks, failures);
    return failures ? 1 : 0;
}

const char *node_path(void)
{
    const char *path = getenv("CUSE_TEST_NODE");

    return path ? path : "/dev/cuse-test";
}

int open_node(void)
{
    int fd = open(node_path(), O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        perror(node_path());
        exit(2);
    }
    return fd;
}

long request(int fd, unsigned long command, __u32 value)
{
    struct cuse_test argument = {.size = sizeof(argument), .value = value};

    if (ioctl(fd, command, &argument) < 0)
        return -1;
    return argument.value;
}

/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "calls.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>

#include "linux/iommufd.h"

double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

int open_node(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0)
        err(1, "%s", path);
    return fd;
}

void destroy_nothing(int fd)
{
    struct iommu_destroy destroy = {.size = sizeof destroy, .id = 0x7fffffff};

    if (ioctl(fd, IOMMU_DESTROY, &destroy) != -1 || errno != ENOENT)
        err(1, "DESTROY");
}

void get_option(int fd)
{
    struct iommu_option option = {.size = sizeof option,
                                  .option_id = IOMMU_OPTION_RLIMIT_MODE,
                                  .op = IOMMU_OPTION_OP_GET,
                                  .val64 = 7};

    if (ioctl(fd, IOMMU_OPTION, &option) || option.val64)
        err(1, "OPTION");
}

void keep_best(double *best, double nanoseconds)
{
    if (!*best || nanoseconds < *best)
        *best = nanoseconds;
}

void print_header(void)
{
    printf("                                      C ns    ours ns   ratio   limit\n");
}

int print_row(const char *name, const double best[2], double limit)
{
    double ratio = best[1] / best[0];

    printf("%-34s%8.0f%11.0f%8.2f%8.2f%s\n", name, best[0], best[1], ratio, limit,
           ratio > limit ? "  over" : "");
    return ratio > limit;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cost of a call over CUSE, compared with a minimal server (cuse_floor.c).
 *
 *   cuse_round_trip [--check] FLOOR IOMMUFD VFIO     prints nanoseconds per call on these nodes
 *
 * The nodes take turns in short rounds. The best round of each counts. With --check the program
 * fails when a ratio exceeds its limit.
 */
#define _GNU_SOURCE
#include <err.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "calls.h"
#include "linux/iommufd.h"
#include "linux/vfio.h"

enum { ROUNDS = 20, CALLS = 20 };

static struct vfio_region_info config = {.argsz = sizeof config,
                                         .index = VFIO_PCI_CONFIG_REGION_INDEX};

static void read_register(int fd)
{
    unsigned value;

    if (pread(fd, &value, sizeof value, (off_t)config.offset) != sizeof value)
        err(1, "pread");
}

static const struct {
    const char *name;
    void (*call)(int fd);
    int of_device;
    double limit;
} rows[] = {
    {"CUSE: ioctl, struct in", destroy_nothing, 0, 1.4},
    {"CUSE: ioctl, struct in and out", get_option, 0, 1.4},
    {"CUSE: pread of a register", read_register, 1, 1.4},
};

static double time_round(void (*call)(int fd), int fd)
{
    double start = now();

    for (int i = 0; i < CALLS; i++)
        call(fd);
    return (now() - start) / CALLS;
}

int main(int count, char **arguments)
{
    int check = count > 1 && !strcmp(arguments[1], "--check"), over = 0;

    if (count != 4 + check)
        errx(2, "usage: cuse_round_trip [--check] FLOOR IOMMUFD VFIO");
    char **nodes = arguments + 1 + check;
    int floor = open_node(nodes[0]), iommufd = open_node(nodes[1]), device = open_node(nodes[2]);
    struct vfio_device_bind_iommufd bind = {.argsz = sizeof bind, .iommufd = iommufd};

    if (ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind))
        err(1, "BIND_IOMMUFD");
    if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config))
        err(1, "GET_REGION_INFO");
    print_header();
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        double best[2] = {0};

        for (int round = 0; round < ROUNDS; round++) {
            keep_best(&best[0], time_round(rows[row].call, floor));
            keep_best(&best[1], time_round(rows[row].call, rows[row].of_device ? device : iommufd));
        }
        over |= print_row(rows[row].name, best, rows[row].limit);
    }
    return check && over;
}

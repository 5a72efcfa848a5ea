/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIEGE_H
#define SIEGE_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/vfio.h>

#include "check.h"
#include "nodes.h"
#include "vfio/test_device.h"

/** Milliseconds of CLOCK_MONOTONIC, with a fraction. */
double now_ms(void);

/** A client with a device, whose IOAS has the page `page` at IOVA `IOVA_OF_PAGE`. */
struct victim {
    int iommufd;
    uint32_t ioas;
    struct test_device device;
    volatile uint8_t *page;
    int doorbell; /* an eventfd; its signal makes the device write its buffer to the page */
};
enum { IOVA_OF_PAGE = 0x100000 };

/** Opens an iommufd and device `index`, and attaches the device to a new IOAS. */
void open_victim(struct victim *victim, int index);
/** Maps `page` for the device. */
void map_page(struct victim *victim, void *page, size_t length);
/** As map_page(), without the right to write. */
void map_for_reading(struct victim *victim, void *page, size_t length);
/** Makes the device copy a page when `doorbell` is signalled. */
void add_doorbell(struct victim *victim, uint32_t command);
/** Signals the doorbell. */
void ring(const struct victim *victim);

/** Registers memory with a userfaultfd that nobody serves. Returns false where that is forbidden. */
bool make_missing(void *memory, size_t length);

/** Opens a file that this process serves. Returns -1 where no file system can be mounted. */
int open_stuck_file(size_t size);
/** Lets no further page of the file arrive. */
void stop_stuck_file(int file);

/** An attack: runs in a process of its own until the process is killed. */
struct attack {
    const char *name;
    /** Calls ready() when the attack has begun. */
    void (*run)(void);
    /** How often the attack is repeated, so that its share must be free again. */
    unsigned rounds;
};
extern const struct attack attacks[];
extern const size_t attack_count;
/** Tells the first process that the attack has begun. */
void ready(void);

#endif /* SIEGE_H */

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a transcript has names for, so that nothing printed depends on where things happen to lie: errnos,
 * regions of memory, descriptors.
 */
#ifndef NAMED_H
#define NAMED_H

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/iommufd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#define PAGE 4096UL
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- names ------------------------------------------------------------------------------ */

static inline const char *errno_name(int value)
{
    static char number[16];
    const char *name = strerrorname_np(value);

    if (name)
        return name;
    snprintf(number, sizeof(number), "errno%d", value);
    return number;
}

/** Prints ` -> 0`, ` -> 5` or ` -> EINVAL`. Leaves errno alone. */
static inline void print_result(long result)
{
    if (result < 0)
        printf(" -> %s", errno_name(errno));
    else
        printf(" -> %ld", result);
}

/* ---- memory regions --------------------------------------------------------------------- */

struct region {
    const char *name;
    unsigned char *base;
    size_t length;
    unsigned char *before; /* a copy made just before the call, if watched */
};

static struct region regions[32];
static size_t region_count;

static inline struct region *name_region(const char *name, void *base, size_t length)
{
    struct region *region = NULL;

    for (size_t i = 0; i != region_count; i++)
        if (!strcmp(regions[i].name, name))
            region = &regions[i];
    if (!region) {
        if (region_count == COUNT(regions))
            abort();
        region = &regions[region_count++];
    }
    free(region->before);
    *region = (struct region){.name = name, .base = base, .length = length};
    return region;
}

/**
 * Memory at an address that is the same in every run and far from anything else. What a user
 * address is decides where automatic IOVA placement puts it, so it must not be random.
 */
static inline void *region_at(const char *name, uintptr_t address, size_t length, int protection)
{
    void *base = mmap((void *)address, length, protection,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

    if (base != (void *)address) {
        fprintf(stderr, "cannot place %s at %#lx\n", name, (unsigned long)address);
        exit(2);
    }
    name_region(name, base, length);
    return base;
}

/** The memory that a client maps: at the same address in every run, as all regions are. */
static unsigned char *buffer;

static inline void make_buffer(size_t pages)
{
    buffer = region_at("buffer", 0x200000000000, pages * PAGE, PROT_READ | PROT_WRITE);
}

/** From now on every byte of [base, base + length) that a call changes is printed. */
static inline void watch(const char *name, void *base, size_t length)
{
    struct region *region = name_region(name, base, length);

    region->before = malloc(length);
    if (!region->before)
        abort();
}

static inline void unwatch(const char *name)
{
    for (size_t i = 0; i != region_count; i++)
        if (!strcmp(regions[i].name, name)) {
            free(regions[i].before);
            regions[i].before = NULL;
        }
}

/** The region that `value` points into; else one that ends there, as what lies behind it has no name. */
static inline const struct region *region_of(uint64_t value)
{
    const struct region *ending = NULL;

    for (size_t i = 0; i != region_count; i++) {
        uint64_t offset = value - (uintptr_t)regions[i].base;

        if (offset < regions[i].length)
            return &regions[i];
        if (offset == regions[i].length && !ending)
            ending = &regions[i];
    }
    return ending;
}

static inline void print_pointer(uint64_t value)
{
    const struct region *region = region_of(value);

    if (region && value == (uintptr_t)region->base)
        printf("%s", region->name);
    else if (region)
        printf("%s+%#llx", region->name, (unsigned long long)(value - (uintptr_t)region->base));
    else if (value)
        printf("%#llx", (unsigned long long)value);
    else
        printf("NULL");
}

static inline void remember_watched(void)
{
    for (size_t i = 0; i != region_count; i++)
        if (regions[i].before)
            memcpy(regions[i].before, regions[i].base, regions[i].length);
}

/** One item for each run of changed 8-byte words: `name+0x10:1000,1fff`. */
static inline void print_watched_changes(const char **bar)
{
    for (size_t i = 0; i != region_count; i++) {
        struct region *region = &regions[i];
        bool running = false;

        if (!region->before)
            continue;
        for (size_t at = 0; at + 8 <= region->length; at += 8) {
            uint64_t value;

            if (!memcmp(region->before + at, region->base + at, 8)) {
                running = false;
                continue;
            }
            memcpy(&value, region->base + at, 8);
            if (running)
                printf(",%llx", (unsigned long long)value);
            else
                printf("%s %s+%#zx:%llx", *bar, region->name, at, (unsigned long long)value);
            running = true;
            *bar = "";
        }
        size_t tail = region->length & ~(size_t)7;

        for (size_t at = tail; at < region->length; at++)
            if (region->before[at] != region->base[at]) {
                printf("%s %s+%#zx:%02x", *bar, region->name, at, region->base[at]);
                *bar = "";
            }
    }
}

/* ---- file descriptors ------------------------------------------------------------------- */

static struct {
    int fd;
    const char *name;
} named_fds[16];
static size_t named_fd_count;

/** Descriptor numbers differ between front ends; their names do not. */
static inline int name_fd(const char *name, int fd)
{
    if (fd < 0) {
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
        exit(2);
    }
    if (named_fd_count == COUNT(named_fds))
        abort();
    named_fds[named_fd_count].fd = fd;
    named_fds[named_fd_count++].name = name;
    return fd;
}

static inline void print_fd(int fd)
{
    for (size_t i = named_fd_count; i-- > 0;)
        if (named_fds[i].fd == fd) {
            printf("%s", named_fds[i].name);
            return;
        }
    printf("%d", fd);
}

#endif /* NAMED_H */

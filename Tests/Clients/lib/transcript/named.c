/* SPDX-License-Identifier: Apache-2.0 */
#include "transcript/named.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

struct region {
    const char *name;
    unsigned char *base;
    size_t length;
    unsigned char *before; /* the bytes before the call; NULL when the region is not watched */
};

static struct region regions[32];
static size_t region_count;

static struct {
    int fd;
    const char *name;
} named_fds[16];
static size_t fd_count;

unsigned char *buffer;

/* ---- results ---------------------------------------------------------------------------- */

const char *errno_name(int value)
{
    static char number[16];
    const char *name = strerrorname_np(value);

    if (name)
        return name;
    snprintf(number, sizeof(number), "errno%d", value);
    return number;
}

void print_result(long result)
{
    if (result < 0)
        printf(" -> %s", errno_name(errno));
    else
        printf(" -> %ld", result);
}

/* ---- memory regions --------------------------------------------------------------------- */

static struct region *set_region(const char *name, void *base, size_t length)
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

void name_region(const char *name, void *base, size_t length)
{
    set_region(name, base, length);
}

void *map_region_at(const char *name, uintptr_t address, size_t length, int protection)
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

void make_buffer(size_t pages)
{
    buffer = map_region_at("buffer", 0x200000000000, pages * PAGE, PROT_READ | PROT_WRITE);
}

void watch(const char *name, void *base, size_t length)
{
    struct region *region = set_region(name, base, length);

    region->before = malloc(length);
    if (!region->before)
        abort();
}

void unwatch(const char *name)
{
    for (size_t i = 0; i != region_count; i++)
        if (!strcmp(regions[i].name, name)) {
            free(regions[i].before);
            regions[i].before = NULL;
        }
}

/**
 * Returns the region that `value` points into, else one that ends at `value`: what follows it has
 * no name.
 */
static const struct region *region_of(uint64_t value)
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

void print_pointer(uint64_t value)
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

void snapshot_watched(void)
{
    for (size_t i = 0; i != region_count; i++)
        if (regions[i].before)
            memcpy(regions[i].before, regions[i].base, regions[i].length);
}

void print_watched_changes(const char **bar)
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

int name_fd(const char *name, int fd)
{
    if (fd < 0) {
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
        exit(2);
    }
    if (fd_count == COUNT(named_fds))
        abort();
    named_fds[fd_count].fd = fd;
    named_fds[fd_count++].name = name;
    return fd;
}

void rename_fd(const char *name, int fd)
{
    for (size_t i = 0; i != fd_count; i++)
        if (!strcmp(named_fds[i].name, name)) {
            named_fds[i].fd = fd;
            return;
        }
    if (fd >= 0)
        name_fd(name, fd);
}

void remove_last_fd_name(void)
{
    fd_count--;
}

void remove_all_fd_names(void)
{
    fd_count = 0;
}

size_t named_fd_count(void)
{
    return fd_count;
}

int named_fd(size_t index)
{
    return named_fds[index].fd;
}

/** The last name wins: an earlier descriptor with the same number has been closed. */
void print_fd(int fd)
{
    for (size_t i = fd_count; i-- > 0;)
        if (named_fds[i].fd == fd) {
            printf("%s", named_fds[i].name);
            return;
        }
    printf("%d", fd);
}

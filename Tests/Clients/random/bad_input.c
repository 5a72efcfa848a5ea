/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bad_input SEED COUNT [all]: whatever a broken or hostile client might send. Every request number
 * of the type, structs of random bytes, counts and lengths that make no sense, pointers to
 * everywhere. "all" adds the commands that need a device.
 *
 * Nothing is expected of any one call but an answer. What is printed is how many calls of each
 * number ended in each errno: the same everywhere, if the same seed is given to the same interface.
 * At the end an ordinary client must still be served.
 */
#include "transcript/hwpt.h"
#include "random.h"

#include <sys/syscall.h>

enum { NUMBERS = 256, ERRNOS = 134 };

static unsigned counts[NUMBERS][ERRNOS];
static unsigned char *good, *readonly, *edge;

/** Values that are usual, on an edge or absurd. */
static uint64_t some_value(void)
{
    static const uint64_t edges[] = {
        0, 1, 2, 3, 4, 7, 0xfff, 0x1000, 0x1001, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
        0x7ffffffff000, 0x800000000000, 0xffff888000000000, 1UL << 63, UINT64_MAX - 0xfff,
        UINT64_MAX - 1, UINT64_MAX,
    };

    switch (below(4)) {
    case 0:
        return random_next();
    case 1:
        return (uintptr_t)good + below(4096);
    case 2:
        return below(8);
    default:
        return edges[below(COUNT(edges))];
    }
}

static void random_struct(unsigned char *at, uint32_t usual)
{
    static const uint32_t sizes[] = {0, 3, 4, 8, 12, 16, 24, 32, 40, 48, 56, 72, 4096, 1 << 20};
    uint32_t size = below(4) ? usual : sizes[below(COUNT(sizes))];

    for (unsigned i = 0; i != 16; i++) {
        bool is_one = below(2); /* or two of 32 bits */
        uint64_t value = some_value();

        if (!is_one)
            value = (uint32_t)value | some_value() << 32;
        memcpy(at + i * 8, &value, 8);
    }
    if (below(3))
        memset(at + (usual & ~7U), 0, 128 - (usual & ~7U));
    if (below(16))
        memcpy(at, &size, 4);
}

static void *some_pointer(uint32_t usual)
{
    switch (below(12)) {
    case 0:
        return NULL;
    case 1:
        return (void *)(uintptr_t)some_value();
    case 2:
        return readonly + below(64);
    case 3: {
        unsigned char *at = edge - below(usual + 1);

        memcpy(at, good + 4096, (size_t)(edge - at));
        return at;
    }
    case 4:
        random_struct(good + 3, usual);
        return good + 3;
    default:
        random_struct(good, usual);
        return good;
    }
}

static size_t command_count = WITHOUT_DEVICE;

/** The simulator's own numbers, and those that only a kernel with its selftest looks at. */
static bool not_everywhere(unsigned nr)
{
    return (nr > _IOC_NR(IOMMU_VFIO_IOAS) && nr <= _IOC_NR(IOMMU_TEST_CMD)) || nr >= 0xe0;
}

/** Mostly numbers that mean something; the others mean nothing to anyone. */
static unsigned long some_request(uint32_t *usual)
{
    unsigned nr = (unsigned)below(NUMBERS);
    unsigned long request = _IO(IOMMUFD_TYPE, not_everywhere(nr) ? 0 : nr);

    *usual = 64;
    if (below(8)) {
        const struct command *command = every_command[below(command_count)];

        *usual = command->size;
        return command->request;
    }
    if (!below(8))
        request |= below(1 << 16) << 16;
    return request;
}

/** A descriptor made by a lucky call must not fill the table of open files. */
static void close_new_descriptors(int highest)
{
    /* Which numbers descriptors get is not ours to know. */
    syscall(SYS_close_range, highest + 1, ~0u, 0);
}

static void digest(void)
{
    for (unsigned nr = 0; nr != NUMBERS; nr++) {
        bool any = false;

        for (unsigned error = 0; error != ERRNOS; error++) {
            if (!counts[nr][error])
                continue;
            if (!any)
                printf("%#x:", nr);
            any = true;
            printf(" %s %u", error ? errno_name((int)error) : "0", counts[nr][error]);
        }
        if (any)
            printf("\n");
    }
}

static void still_served(void)
{
    uint32_t ioas;

    section("an ordinary client afterwards");
    close(iommufd);
    iommufd = open_iommufd();
    ioas = ioas_alloc();
    map(ioas, 0x200000000000, PAGE, R | W, 0);
    unmap(ioas, 0, UINT64_MAX);
    destroy(ioas);
}

int main(int argc, char **argv)
{
    unsigned count = 20000;
    int highest;

    random_arguments(argc, argv, &count);
    if (argc > 3) {
        command_count = COUNT(every_command);
        part = "queues";
    }
    begin("bad input");
    good = region_at("good", 0x200000000000, 2 << 20, PROT_READ | PROT_WRITE);
    readonly = region_at("readonly", 0x210000000000, PAGE, PROT_READ);
    edge = (unsigned char *)region_at("edge", 0x220000000000, PAGE, PROT_READ | PROT_WRITE) + PAGE;
    highest = dup(iommufd);
    for (unsigned i = 0; i != count; i++) {
        uint32_t usual;
        unsigned long request = some_request(&usual);
        void *at = some_pointer(usual);
        int result = ioctl(iommufd, request, at);

        counts[_IOC_NR(request)][result < 0 ? errno % ERRNOS : 0]++;
        if (i % 256 == 0)
            close_new_descriptors(highest);
        if (i % 4096 == 4095) { /* begin again with no objects */
            close(iommufd);
            iommufd = open_iommufd();
        }
    }
    digest();
    still_served();
    return 0;
}

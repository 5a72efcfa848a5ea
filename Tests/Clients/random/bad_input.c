/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of a broken or hostile client: every request number of the type, structs of random
 * bytes, impossible counts and lengths, and arbitrary pointers.
 *
 *   bad_input SEED COUNT [all]     all: the commands that need a device, too
 *
 * A call may have any result. The client prints for each request number how many calls ended in
 * each errno, which depends only on the seed. At the end an ordinary client must still be served.
 */
#include "transcript/hwpt.h"
#include "random.h"

#include <sys/syscall.h>

#include "iommufd_test.h"

enum { NUMBERS = 256, ERRNOS = 134 };

static unsigned counts[NUMBERS][ERRNOS];
static unsigned char *good, *readonly, *edge;

/** Returns a usual, extreme or random value. */
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
        bool is_one = below(2); /* else two of 32 bits */
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

static size_t command_count = COMMANDS_WITHOUT_DEVICE;

/**
 * Returns whether the number is an extension's, or one that only a kernel with the selftest
 * interface knows.
 */
static bool not_everywhere(unsigned nr)
{
    return (nr > _IOC_NR(IOMMU_VFIO_IOAS) && nr <= _IOC_NR(IOMMU_TEST_CMD)) || nr >= 0xe0;
}

/** Returns a request, mostly of a command, and the usual size of its struct. */
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

/**
 * Closes the file descriptors that calls have created, which would fill the file descriptor table.
 */
static void close_new_descriptors(int highest)
{
    /* The front end chooses the numbers of queues. */
    syscall(SYS_close_range, highest + 1, ~0u, 0);
}

static void print_counts(void)
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

static void run_ordinary_client(void)
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

    read_seed_and_count(argc, argv, &count);
    if (argc > 3) {
        command_count = COUNT(every_command);
        part = "queues";
    }
    begin("bad input");
    good = map_region_at("good", 0x200000000000, 2 << 20, PROT_READ | PROT_WRITE);
    readonly = map_region_at("readonly", 0x210000000000, PAGE, PROT_READ);
    edge =
        (unsigned char *)map_region_at("edge", 0x220000000000, PAGE, PROT_READ | PROT_WRITE) + PAGE;
    highest = dup(iommufd);
    for (unsigned i = 0; i != count; i++) {
        uint32_t usual;
        unsigned long request = some_request(&usual);
        void *at = some_pointer(usual);
        int result = ioctl(iommufd, request, at);

        counts[_IOC_NR(request)][result < 0 ? errno % ERRNOS : 0]++;
        if (i % 256 == 0)
            close_new_descriptors(highest);
        if (i % 4096 == 4095) { /* a new context without objects */
            close(iommufd);
            iommufd = open_iommufd();
        }
    }
    print_counts();
    run_ordinary_client();
    return 0;
}

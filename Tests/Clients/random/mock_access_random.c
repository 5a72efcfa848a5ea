/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations on accesses: pinning, reading, writing, moving to another IOAS and unmapping
 * all kinds of memory of a process, with and without a device that has the memory pinned, too.
 *
 *   mock_access_random SEED COUNT
 *
 * Huge pages are disabled, so that physical addresses have no effect.
 */
#include "mock/mock.h"
#include "random.h"

#include <sys/wait.h>

enum {
    PAGES = 16,     /* pages of the buffer: */
    PLAIN = 6,      /* ... the number of private pages at its beginning */
    READ_ONLY = 6,  /* ... the first of two read-only pages */
    NOTHING = 8,    /* ... a page with PROT_NONE */
    HOLE = 9,       /* ... an unmapped page */
    SHARED = 10,    /* ... the first of the shared pages of the file */
    FILE_PAGES = 6,
    AREAS = 10,     /* pages of IOVA */
    ACCESSES = 4,
};

static uint32_t ioas[3], item[8];
static struct mock_device device;
static struct {
    const char *name;
    int fd;
    uint32_t flags;
} accesses[ACCESSES] = {{"a0", -1, 0}, {"a1", -1, 0}, {"a2", -1, 0}, {"a3", -1, 0}};
static unsigned char *scratch;
static int memory;

static uint32_t some_ioas(void)
{
    return chance(3) ? below(30) : ioas[below(COUNT(ioas))];
}

static uint64_t some_iova(unsigned uneven)
{
    uint64_t iova = MOCK_START + below(AREAS) * PAGE;

    return chance(uneven) ? iova + below(PAGE) : iova;
}

static uint64_t some_length(unsigned uneven)
{
    return chance(uneven) ? below(3 * PAGE) : (1 + below(4)) * PAGE;
}

static unsigned char *some_memory(void)
{
    return buffer + below(PAGES) * PAGE;
}

static int some_access(void)
{
    if (chance(2))
        return below(2) ? iommufd : memory;
    for (unsigned i = below(ACCESSES), n = 0; n != ACCESSES; i = (i + 1) % ACCESSES, n++)
        if (accesses[i].fd >= 0)
            return accesses[i].fd;
    return -1;
}

static uint32_t some_permission(void)
{
    static const uint32_t flags[] = {R | W, R | W, R, W};

    return FIXED | flags[below(COUNT(flags))];
}

static void make_or_close(void)
{
    unsigned i = below(ACCESSES);
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_CREATE_ACCESS, some_ioas());

    if (accesses[i].fd >= 0 && below(3))
        return;
    if (accesses[i].fd >= 0) {
        printf("close %s\n", accesses[i].name);
        close(accesses[i].fd);
        rename_fd(accesses[i].name, -2);
        accesses[i].fd = -1;
        return;
    }
    cmd.create_access.flags = below(4) != 0;
    if (run(&CREATE_ACCESS, &cmd))
        return;
    accesses[i].fd = (int)cmd.create_access.out_access_fd;
    accesses[i].flags = cmd.create_access.flags;
    rename_fd(accesses[i].name, accesses[i].fd);
}

/** Maps memory of a child process, which then exits. */
static void map_as_another(void)
{
    unsigned page = below(PLAIN - 2);
    uint32_t target = some_ioas();
    uint64_t iova = some_iova(0);
    int status;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        map(target, (uintptr_t)buffer + page * PAGE, 2 * PAGE, FIXED | R | W, iova);
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, &status, 0);
}

static void make_or_break_device(void)
{
    if (device.stdev) {
        destroy(device.stdev);
        device.stdev = 0;
    } else if (mock_domain(some_ioas(), &device)) {
        device.stdev = 0;
    }
}

static void pin(void)
{
    unsigned char *expected = below(4) ? NULL : some_memory();
    uint32_t flags = chance(5) ? below(4) : below(2);
    uint64_t length = some_length(10), iova = some_iova(10);
    uint32_t number = access_pages(some_access(), iova, length, expected, flags);

    if (number != UINT32_MAX)
        item[below(COUNT(item))] = number;
}

static void read_or_write(void)
{
    uint32_t flags = below(2);
    uint64_t iova, length;
    unsigned char *place;

    if (!below(3))
        flags |= MOCK_ACCESS_RW_SLOW_PATH;
    place = chance(5) ? some_memory() : scratch;
    if (chance(3))
        flags |= 2;
    memset(scratch, (int)below(256), 64);
    if (chance(40)) { /* across the border of two pages */
        length = below(128);
        iova = some_iova(0);
        iova -= below(64);
    } else {
        length = chance(4) ? some_length(80) : below(64);
        iova = some_iova(60);
    }
    access_rw(some_access(), iova, length, place, flags);
}

static void map_own(unsigned page)
{
    uint64_t iova = some_iova(5);
    uint32_t flags = some_permission();
    uint64_t length = some_length(5), offset = page * PAGE + (chance(8) ? 0x800 : 0);

    map(some_ioas(), (uintptr_t)buffer + offset, length, flags, iova);
}

static void map_shared(void)
{
    uint64_t iova = some_iova(5);
    uint32_t flags = some_permission();
    uint64_t length = some_length(5), start = below(FILE_PAGES + 1) * PAGE;

    map_file(some_ioas(), memory, start, length, flags, iova);
}

static void map_again(void)
{
    uint64_t iova = some_iova(5);
    uint32_t flags = some_permission();
    uint64_t length = some_length(5), source = some_iova(5);
    uint32_t from = some_ioas();

    copy(some_ioas(), from, source, length, flags, iova);
}

static void unmap_some(void)
{
    uint64_t length = (1 + below(8)) * PAGE, iova = some_iova(0);

    unmap(some_ioas(), iova, length);
}

static void destroy_and_make(void)
{
    unsigned i = below(COUNT(ioas));

    if (!destroy(ioas[i])) {
        ioas[i] = ioas_alloc();
        option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, ioas[i], below(2));
    }
}

static void step(void)
{
    unsigned page = below(PAGES);
    uint32_t number;

    switch (below(24)) {
    case 0:
    case 1:
        make_or_close();
        break;
    case 2:
        number = some_ioas();
        access_replace(some_access(), number);
        break;
    case 3:
    case 4:
    case 5:
        map_own(page);
        break;
    case 6:
        map_shared();
        break;
    case 7:
        map_again();
        break;
    case 8:
        map_as_another();
        break;
    case 9:
    case 10:
        unmap_some();
        break;
    case 11:
        if (chance(20))
            destroy_and_make();
        else if (below(2))
            unmap(some_ioas(), 0, UINT64_MAX);
        break;
    case 12:
        make_or_break_device();
        break;
    case 13:
        number = below(3);
        check_refs(buffer + (below(2) ? below(PLAIN) : SHARED + below(FILE_PAGES)) * PAGE, PAGE,
                   number);
        break;
    case 14:
        print_iova_ranges(some_ioas());
        break;
    case 15:
    case 16:
        number = chance(10) ? below(20) : item[below(COUNT(item))];
        destroy_access_pages(some_access(), number);
        break;
    case 17:
    case 18:
    case 19:
        pin();
        break;
    default:
        read_or_write();
    }
}

int main(int argc, char **argv)
{
    unsigned count = 1000;

    part = "mock";
    read_seed_and_count(argc, argv, &count);
    begin("random use of accesses");
    memory = name_fd("memfd", memfd_create("memory", 0));
    if (ftruncate(memory, FILE_PAGES * PAGE))
        return 2;
    make_buffer(PAGES);
    for (unsigned i = 0; i != PAGES * PAGE; i++)
        buffer[i] = (unsigned char)(i >> 12 ^ i >> 5);
    mprotect(buffer + READ_ONLY * PAGE, 2 * PAGE, PROT_READ);
    mprotect(buffer + NOTHING * PAGE, PAGE, PROT_NONE);
    munmap(buffer + HOLE * PAGE, PAGE);
    if (mmap(buffer + SHARED * PAGE, FILE_PAGES * PAGE, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED, memory, 0) == MAP_FAILED)
        return 2;
    memset(buffer + SHARED * PAGE, 0xaa, FILE_PAGES * PAGE);
    scratch = map_region_at("scratch", 0x210000000000, 4 * PAGE, PROT_READ | PROT_WRITE);
    memset(scratch, 0, 4 * PAGE);
    watch("scratch", scratch, 4 * PAGE);
    watch("own", buffer, PLAIN * PAGE);
    watch("shared", buffer + SHARED * PAGE, FILE_PAGES * PAGE);
    for (unsigned i = 0; i != COUNT(ioas); i++) {
        ioas[i] = ioas_alloc();
        if (i != 1)
            option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, ioas[i], 0);
    }
    for (unsigned i = 0; i != count; i++)
        step();
    return 0;
}

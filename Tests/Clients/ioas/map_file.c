/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IOAS_MAP_FILE maps the pages of a file that a file descriptor names. Until a device pins the
 * pages, every kind of open file is accepted.
 */
#include "transcript/ioas.h"

#include <sys/eventfd.h>
#include <sys/socket.h>

static int memory_file;

static void resize(int fd, off_t length)
{
    if (ftruncate(fd, length))
        exit(2);
}

static void test_arguments(uint32_t ioas)
{
    section("flags");
    for (uint32_t flags = 0; flags != 16; flags++)
        map_file(ioas, memory_file, 0, PAGE, flags, 0x100000000 + flags * 0x10000);
    map_file(ioas, memory_file, 0, PAGE, FIXED | R | 0x80000000, 0x1000);

    section("ids, and which error comes first");
    map_file(0, memory_file, 0, PAGE, R, 0);
    map_file(ioas + 1, memory_file, 0, PAGE, R, 0);
    map_file(99, -1, 0, 0, R, 0);
    map_file(99, -1, 0, 0, 0, 0);
    map_file(99, -1, 0, UINT64_MAX, 0, 0);
    map_file(ioas, -1, 0, 0, R, 0);
    map_file(ioas, -1, UINT64_MAX, 2, R, 0);
    map_file(ioas, -1, 0, PAGE, R, UINT64_MAX);
}

static void test_descriptors(uint32_t ioas)
{
    int pipe_ends[2], sockets[2];
    int null = name_fd("/dev/null", open("/dev/null", O_RDWR));
    int path = name_fd("O_PATH", open("/", O_PATH | O_DIRECTORY));
    int directory = name_fd("directory", open("/", O_RDONLY | O_DIRECTORY));
    int regular = name_fd("regular", open("/proc/self/exe", O_RDONLY));
    int event = name_fd("eventfd", eventfd(0, 0));
    int closed = name_fd("closed", dup(null));
    int sealed = name_fd("sealed", memfd_create("sealed", MFD_ALLOW_SEALING));
    int reader = name_fd("read-only", open("/dev/zero", O_RDONLY));

    close(closed);
    if (pipe(pipe_ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
        exit(2);
    name_fd("pipe", pipe_ends[0]);
    name_fd("socket", sockets[0]);
    resize(sealed, 4 * PAGE);
    fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW);

    section("descriptors");
    const int fds[] = {memory_file, null,       path,   directory, regular, event, closed,
                       sealed,      reader,     pipe_ends[0], sockets[0], iommufd};

    for (size_t i = 0; i != COUNT(fds); i++) {
        map_file(ioas, fds[i], 0, PAGE, R, 0);
        map_file(ioas, fds[i], 0, PAGE, R | W, 0);
    }
    map_file(ioas, -1, 0, PAGE, R, 0);
    map_file(ioas, -100, 0, PAGE, R, 0);
    map_file(ioas, 0x7fffffff, 0, PAGE, R, 0);
    map_file(ioas, (int)0x80000000, 0, PAGE, R, 0);
    for (size_t i = 0; i != COUNT(fds); i++)
        if (fds[i] != memory_file && fds[i] != iommufd && fds[i] != closed)
            close(fds[i]);
    unmap(ioas, 0, UINT64_MAX);
}

static void test_offsets(uint32_t ioas)
{
    static const struct {
        uint64_t start, length;
    } cases[] = {
        {0, 0},           {0, 1},           {1, 1},
        {0xfff, 2},       {0x1000, 0x1000}, {0x3000, 0x1000},
        {0x4000, 0x1000}, {0x800, 0x800},   {1UL << 40, PAGE},
        {1UL << 63, PAGE}, {UINT64_MAX, 1}, {UINT64_MAX, 2},
        {UINT64_MAX - 1, 1}, {UINT64_MAX - PAGE + 1, PAGE}, {UINT64_MAX - PAGE + 2, PAGE},
        {0, 1UL << 62},   {0, UINT64_MAX - PAGE}, {0, UINT64_MAX - PAGE + 1},
        {0, UINT64_MAX - 1}, {0, UINT64_MAX},
    };

    section("start and length; the file has 4 pages");
    for (size_t i = 0; i != COUNT(cases); i++) {
        map_file(ioas, memory_file, cases[i].start, cases[i].length, R | W, 0);
        map_file(ioas, memory_file, cases[i].start, cases[i].length, FIXED | R | W, 0);
        unmap(ioas, 0, UINT64_MAX);
    }
}

static void test_placement(uint32_t ioas)
{
    section("placement follows the offset in the file");
    for (unsigned order = 0; order != 32; order++) {
        map_file(ioas, memory_file, 1UL << order, PAGE, R, 0);
        map_file(ioas, memory_file, 1UL << order, 0x10000000, R, 0);
    }
    map_file(ioas, memory_file, 0, 1, R, 0);
    map_file(ioas, memory_file, 0, 0x10000000, R, 0);
    unmap(ioas, 0, UINT64_MAX);
}

static void test_fixed(uint32_t ioas)
{
    section("fixed");
    map_file(ioas, memory_file, 0, 2 * PAGE, FIXED | R, 0x10000);
    map_file(ioas, memory_file, 0, 2 * PAGE, FIXED | R, 0x11000);
    map_file(ioas, memory_file, 0, 2 * PAGE, FIXED | R, 0x12000);
    map_file(ioas, memory_file, 0, 2, FIXED | R, UINT64_MAX - 1);
    map_file(ioas, memory_file, 0, 3, FIXED | R, UINT64_MAX - 1);
    map_file(ioas, memory_file, 0, 1, FIXED | R, UINT64_MAX);
    unmap(ioas, 0x10000, PAGE);
    unmap(ioas, 0x10000, 4 * PAGE);
    unmap(ioas, 0, UINT64_MAX);
}

/** The mapping holds a reference to the file when the file descriptor is closed. */
static void test_closed_descriptor(uint32_t ioas)
{
    int fd = name_fd("second", memfd_create("second", 0));
    uint32_t other = ioas_alloc();

    section("the descriptor is closed, the file truncated");
    resize(fd, PAGE);
    map_file(ioas, fd, 0, PAGE, FIXED | R, 0x10000);
    resize(fd, 0);
    close(fd);
    copy(other, ioas, 0x10000, PAGE, FIXED | R, 0x10000);
    copy(other, ioas, 0x10000, PAGE, FIXED | R | W, 0x20000);
    map_file(ioas, fd, 0, PAGE, FIXED | R, 0x20000);
    unmap(ioas, 0x10000, PAGE);
    destroy(other);
}

static void test_page_alignment(uint32_t ioas)
{
    section("alignment 0x1000");
    unmap(ioas, 0, UINT64_MAX);
    option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, ioas, 0);
    map_file(ioas, memory_file, 0x800, PAGE, R, 0);
    map_file(ioas, memory_file, 0x800, PAGE, FIXED | R, 0x10000);
    map_file(ioas, memory_file, 0, 0x800, R, 0);
    map_file(ioas, memory_file, 0x1000, PAGE, FIXED | R, 0x10800);
    map_file(ioas, memory_file, 0x1000, PAGE, R, 0);
}

int main(void)
{
    uint32_t ioas;

    begin("map_file");
    memory_file = name_fd("memfd", memfd_create("memory", 0));
    resize(memory_file, 4 * PAGE);
    ioas = ioas_alloc();
    test_arguments(ioas);
    unmap(ioas, 0, UINT64_MAX);
    test_descriptors(ioas);
    test_offsets(ioas);
    test_placement(ioas);
    test_fixed(ioas);
    test_closed_descriptor(ioas);
    test_page_alignment(ioas);
    destroy(ioas);
    return 0;
}

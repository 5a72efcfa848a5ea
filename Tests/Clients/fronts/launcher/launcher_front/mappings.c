/* SPDX-License-Identifier: Apache-2.0 */
/* Regions of an open file that a program maps. */
#include "launcher_front.h"

#include <sys/mman.h>
#include <sys/wait.h>

static uint32_t *map(int fd, int protection, int flags, size_t length, off_t offset)
{
    errno = 0;
    return mmap(NULL, length, protection, flags, fd, offset);
}

static uint32_t *map_region(int fd)
{
    return map(fd, PROT_READ | PROT_WRITE, MAP_SHARED, TEST_MAP_LENGTH, TEST_MAP_OFFSET);
}

static bool is_mapped(int fd)
{
    return request(fd, TEST_IS_MAPPED, 0) == 1;
}

static uint32_t *inherited;

/* Writes to the inherited mapping and unmaps it. The parent's mapping stays. */
static bool mapped_in_child(int fd)
{
    inherited[1] = 78;
    while (inherited[2] == 0)
        usleep(1000);
    bool was_mapped = is_mapped(fd);
    munmap(inherited, TEST_MAP_LENGTH);
    return was_mapped && is_mapped(fd); /* the parent's mapping */
}

static void *map_often(void *argument)
{
    long bad = 0;
    for (int i = 0; i < 100; i++) {
        int fd = i % 2 ? *(int *)argument : open_node();
        uint32_t *region = map_region(fd);
        bad += region == MAP_FAILED || *region != open_id(fd);
        munmap(region, TEST_MAP_LENGTH);
        if (i % 2 == 0)
            close(fd);
    }
    return (void *)bad;
}

void test_mappings(void)
{
    enum { BOTH = PROT_READ | PROT_WRITE, LENGTH = TEST_MAP_LENGTH, AT = TEST_MAP_OFFSET };
    static const struct {
        int protection, flags, error;
        size_t length;
        off_t offset;
    } refused[] = {
        {BOTH, MAP_SHARED, ENXIO, LENGTH, 0},
        {BOTH, MAP_SHARED, ENXIO, LENGTH, AT + 4096},
        {BOTH, MAP_SHARED, ENXIO, LENGTH / 2, AT},
        {BOTH, MAP_SHARED, ENXIO, LENGTH + 1, AT},
        {PROT_READ | PROT_EXEC, MAP_SHARED, EPERM, LENGTH, AT},
        {BOTH, MAP_PRIVATE, EINVAL, LENGTH, AT},
        {BOTH, MAP_PRIVATE, EINVAL, LENGTH, 0},
        {BOTH, 0, EINVAL, LENGTH, AT},
        {BOTH, MAP_SHARED | MAP_HUGETLB, EINVAL, LENGTH, AT},
        {BOTH, MAP_SHARED, EINVAL, 0, AT},
        {BOTH, MAP_SHARED, EINVAL, LENGTH, AT + 8},
        {BOTH, MAP_SHARED, ENOMEM, (size_t)-4096, AT},
    };
    int fd = open_node(), id = open_id(fd), before = count_open(fd);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        CHECK(map(fd, refused[i].protection, refused[i].flags, refused[i].length,
                  refused[i].offset) == MAP_FAILED);
        check(errno == refused[i].error, "refused %zu: %s", i, strerror(errno));
    }
    CHECK(!is_mapped(fd));

    uint32_t *one = map_region(fd), *other = map_region(fd);
    CHECK(one != MAP_FAILED && other != MAP_FAILED && one != other);
    CHECK(one[0] == (uint32_t)id && one[2047] == 0);
    one[2047] = 5;
    CHECK(other[2047] == 5);
    uint32_t *view = map(fd, PROT_READ, MAP_SHARED, LENGTH - 1, AT); /* rounded up */
    CHECK(view != MAP_FAILED && view[2047] == 5);
    munmap(view, LENGTH);
    munmap(other, LENGTH);
    CHECK(is_mapped(fd));
    munmap(one, 4096);
    CHECK(is_mapped(fd)); /* one of two pages is left */
    munmap(one + 1024, 4096);
    CHECK(!is_mapped(fd));

    /* At an address that the program chooses, and moved by mremap(). */
    void *place = mmap(NULL, 4 * LENGTH, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    one = mmap(place, LENGTH, BOTH, MAP_SHARED | MAP_FIXED, fd, AT);
    CHECK(one == place && one[2047] == 5);
    other = mremap(one, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, (char *)place + LENGTH);
    CHECK(other != MAP_FAILED && other[2047] == 5 && is_mapped(fd));
    munmap(place, 4 * LENGTH);

    /* A mapping keeps the file open, as in the kernel. */
    int second = open_node();
    other = map_region(second);
    close(second);
    CHECK(other[0] == (uint32_t)(id + 1) && count_open(fd) == before + 1);
    munmap(other, LENGTH);
    CHECK(count_open(fd) == before);

    /* A new region at the same offset has none of the old contents. */
    CHECK(request(fd, TEST_RENEW_REGION, 0) == 0);
    one = map_region(fd);
    CHECK(one[0] == (uint32_t)id && one[2047] == 0);

    inherited = one;
    pid_t child = fork();
    if (child == 0)
        _exit(!mapped_in_child(fd));
    while (((volatile uint32_t *)one)[1] != 78)
        usleep(1000);
    one[2] = 1;
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(status == 0 && is_mapped(fd));
    munmap(one, LENGTH);
    CHECK(!is_mapped(fd));

    /* Operations on the stand-in file itself. */
    CHECK_ERRNO(ftruncate(fd, 0), EINVAL);
    CHECK_ERRNO(read(fd, &id, 4), EINVAL);
    CHECK_ERRNO(write(fd, &id, 4), EINVAL);
    CHECK_ERRNO(fallocate(fd, 3 /* FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE */, AT, LENGTH),
                ENODEV);
    one = map_region(fd);
    CHECK(one != MAP_FAILED && one[0] == (uint32_t)id);
    munmap(one, LENGTH);
    /* a device cannot get a file descriptor of a device */
    CHECK(request(fd, TEST_POKE, fd) != 1);
    CHECK(count_open(fd) == before);

    CHECK(request(fd, TEST_RENEW_REGION, 0) == 0);
    in_threads(4, map_often, &fd);
    CHECK(count_open(fd) == before && !is_mapped(fd));
    close(fd);
}

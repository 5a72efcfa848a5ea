/* SPDX-License-Identifier: Apache-2.0 */
/* Data in both directions: argument structs, pointers that fault, file offsets, long transfers. */
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "lib/client.h"

static long sum(int fd, const void *pointer, __u64 length)
{
    struct cuse_test argument = {sizeof(argument), 0, (__u64)(unsigned long)pointer, length};

    return ioctl(fd, CUSE_TEST_SUM, &argument) < 0 ? -1 : (long)argument.value;
}

static long fill(int fd, void *pointer, __u64 length, int byte)
{
    struct cuse_test argument = {sizeof(argument), byte, (__u64)(unsigned long)pointer, length};

    return ioctl(fd, CUSE_TEST_FILL, &argument);
}

static void arguments(int fd)
{
    long page = sysconf(_SC_PAGESIZE);
    /* two pages, the second with PROT_NONE */
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct cuse_test *edge = (void *)(pages + page - sizeof(*edge)), ok = {.size = sizeof(ok)};
    mprotect(pages + page, page, PROT_NONE);

    CHECK(request(fd, CUSE_TEST_ECHO, 41) == 42);
    CHECK(ioctl(fd, CUSE_TEST_RETURN, &(struct cuse_test){.size = sizeof(ok), .value = 7}) == 7);
    CHECK_ERRNO(ioctl(fd, CUSE_TEST_ECHO, NULL), EFAULT);
    CHECK_ERRNO(ioctl(fd, CUSE_TEST_ECHO, (void *)-1L), EFAULT);
    CHECK_ERRNO(ioctl(fd, CUSE_TEST_ECHO, (void *)(1UL << 63)), EFAULT);
    CHECK_ERRNO(ioctl(fd, CUSE_TEST_ECHO, pages + page), EFAULT);
    *edge = ok;
    CHECK(ioctl(fd, CUSE_TEST_ECHO, edge) == 0 && edge->value == 1);
    edge = (void *)((char *)edge + 4);
    memcpy(edge, &ok, sizeof(ok) - 4);
    CHECK_ERRNO(ioctl(fd, CUSE_TEST_ECHO, edge), EFAULT); /* ends in the second page */
    mprotect(pages, page, PROT_READ);
    memcpy(&ok, pages + page - 20, 4);
    CHECK_ERRNO(ioctl(fd, CUSE_TEST_ECHO, edge), EFAULT);
    CHECK_ERRNO(ioctl(fd, CUSE_TEST_ECHO, &(struct cuse_test){.size = 8}), EINVAL);
    CHECK_ERRNO(ioctl(fd, 0x3bff, &ok), ENOTTY);
    CHECK_ERRNO(ioctl(fd, 0x3bff, NULL), ENOTTY);

    /* More than the 128 KiB of a FUSE message. */
    size_t length = 1 << 20;
    unsigned char *big = mmap(NULL, length, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(fill(fd, big, length, 3) == 0);
    CHECK(big[0] == 3 && big[length / 2] == 3 && big[length - 1] == 3);
    CHECK(sum(fd, big, length) == (long)(3 * length));
    munmap(big + 4096, 4096);
    CHECK_ERRNO(sum(fd, big, 8192), EFAULT);
    CHECK_ERRNO(fill(fd, big, 8192, 5), EFAULT);
    CHECK(big[0] == 5 && big[4095] == 5); /* the bytes before the unmapped page */
}

static int matches(const unsigned char *data, size_t length, __u64 offset)
{
    for (size_t i = 0; i < length; i++)
        if (data[i] != cuse_test_byte(offset + i))
            return 0;
    return 1;
}

static void expected(unsigned char *data, size_t length, __u64 offset)
{
    for (size_t i = 0; i < length; i++)
        data[i] = cuse_test_byte(offset + i);
}

/**
 * Transfers that FUSE does not pass on as they are: of a buffer that ends in a hole FUSE sends the
 * part before it, of a long transfer at most 32 pages at a time, and of a vector not where an
 * element ends.
 */
static void split_transfers(int fd)
{
    enum { PAGES = 48, LENGTH = PAGES << 12 };
    unsigned char *memory = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *end = memory + LENGTH - 4096;
    struct iovec pieces[PAGES - 1], ends[] = {{memory, 8}, {end - 4, 8}, {memory, 8}};

    munmap(end, 4096);
    for (size_t i = 0; i < PAGES - 1; i++)
        pieces[i] = (struct iovec){memory + (i << 12), 16};
    CHECK_ERRNO(pread(fd, end - 100, 200, 77), EFAULT);
    CHECK(matches(end - 100, 100, 77));
    CHECK_ERRNO(pread(fd, memory + 16, LENGTH - 16, 7), EFAULT);
    CHECK(matches(memory + 16, LENGTH - 4096 - 16, 7));
    expected(memory, LENGTH - 4096, 9);
    CHECK_ERRNO(pwrite(fd, end - 100, 200, LENGTH - 4096 - 100 + 9), EFAULT);
    CHECK_ERRNO(pwrite(fd, memory, LENGTH, 9), EFAULT);
    CHECK(pwrite(fd, memory, LENGTH - 4096, 9) == LENGTH - 4096);
    CHECK(preadv(fd, ends, 3, 5) == 8 && matches(memory, 8, 5) && matches(end - 4, 4, 13));
    CHECK_ERRNO(preadv(fd, ends + 1, 2, 5), EFAULT);
    CHECK(preadv(fd, pieces, PAGES - 1, 3) == 16 * (PAGES - 1));
    for (size_t i = 0; i < PAGES - 1; i++)
        CHECK(matches(memory + (i << 12), 16, 3 + 16 * i));
    CHECK(pwritev(fd, pieces, PAGES - 1, 3) == 16 * (PAGES - 1));
    CHECK_ERRNO(pwritev(fd, pieces, PAGES - 1, 4), EIO);
    CHECK_ERRNO(preadv2(fd, pieces, 1, 0, RWF_DSYNC), EOPNOTSUPP);
    munmap(memory, LENGTH - 4096);
}

static void offsets(const char *path)
{
    static const __u64 places[] = {0, 4, 4095, 1ull << 20, 7ull << 40 | 0x10, 1ull << 50};
    int fd = open(path, O_RDWR);
    static unsigned char data[300 << 10];

    check(fd >= 0, "%s: errno %d", path, errno);
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        __u64 at = places[i];
        struct iovec parts[2] = {{data, 3}, {data + 3, 61}};

        CHECK(pread(fd, data, 64, at) == 64 && matches(data, 64, at));
        CHECK(preadv(fd, parts, 2, at) == 64 && matches(data, 64, at));
        CHECK(preadv2(fd, parts, 2, at, 0) == 64 && matches(data, 64, at));
        for (size_t size = 1; size <= 8; size *= 2) {
            expected(data, size, at);
            CHECK(pwrite(fd, data, size, at) == (ssize_t)size);
        }
        expected(data, 64, at);
        CHECK(pwritev(fd, parts, 2, at) == 64);
        CHECK(pwritev2(fd, parts, 2, at, 0) == 64);
        CHECK_ERRNO(pwrite(fd, data, 64, at + 1), EIO); /* the node checks the bytes */
        /* 300 KiB from an address inside a page: FUSE splits the transfer */
        size_t length = sizeof(data) - 16;
        CHECK(pread(fd, data + 16, length, at) == (ssize_t)length &&
              matches(data + 16, length, at));
        expected(data + 16, length, at);
        CHECK(pwrite(fd, data + 16, length, at) == (ssize_t)length);
    }
    split_transfers(fd);
    /* CUSE files have no position: read(2) reads at offset 0 */
    CHECK(read(fd, data, 32) == 32 && matches(data, 32, 0));
    CHECK(preadv2(fd, &(struct iovec){data, 32}, 1, -1, 0) == 32 && matches(data, 32, 0));
    CHECK_ERRNO(pread(fd, (void *)-4096L, 8, 0), EFAULT);
    CHECK_ERRNO((long)mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0), ENODEV);
    close(fd);
}

int main(void)
{
    char memory[128];
    int fd = open_node();

    arguments(fd);
    snprintf(memory, sizeof(memory), "%s-nodes/memory0", node_path());
    offsets(memory);
    return print_totals("data");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* pread(2), pwrite(2) and their relatives: file offsets, vectors, long transfers, memory with holes. */
#include "conformance.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static unsigned char data[300 << 10];

static bool matches(const unsigned char *bytes, size_t length, uint64_t offset)
{
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != test_byte(offset + i))
            return false;
    return true;
}

static void expected(unsigned char *bytes, size_t length, uint64_t offset)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = test_byte(offset + i);
}

static void test_offset(int fd, uint64_t at)
{
    struct iovec parts[2] = {{data, 3}, {data + 3, 61}};

    CHECK(pread(fd, data, 64, at) == 64 && matches(data, 64, at));
    memset(data, 0, 64);
    CHECK(preadv(fd, parts, 2, at) == 64 && matches(data, 64, at));
    memset(data, 0, 64);
    CHECK(preadv2(fd, parts, 2, at, 0) == 64 && matches(data, 64, at));
    for (size_t size = 1; size <= 8; size *= 2) {
        expected(data, size, at);
        CHECK(pwrite(fd, data, size, at) == (ssize_t)size);
    }
    expected(data, 64, at);
    CHECK(pwritev(fd, parts, 2, at) == 64);
    CHECK(pwritev2(fd, parts, 2, at, 0) == 64);
    CHECK_ERRNO(pwrite(fd, data, 64, at + 1), EIO); /* the node checks the bytes */
    CHECK_ERRNO(pwritev(fd, parts, 2, at + 1), EIO);
    data[3] ^= 1; /* The second piece fails: the length of the first is the result. */
    CHECK(pwritev(fd, parts, 2, at) == 3);
    /* 300 KiB from an address inside a page: FUSE splits the transfer */
    size_t length = sizeof(data) - 16;
    CHECK(pread(fd, data + 16, length, at) == (ssize_t)length && matches(data + 16, length, at));
    expected(data + 16, length, at);
    CHECK(pwrite(fd, data + 16, length, at) == (ssize_t)length);
}

static void test_errors(int fd)
{
    uint64_t at = TEST_REGION(0);
    struct iovec part = {data, 8};

    CHECK_ERRNO(pread(fd, data, 8, TEST_REFUSED_OFFSET), EINVAL);
    CHECK_ERRNO(pwrite(fd, data, 8, TEST_REFUSED_OFFSET), EINVAL);
    CHECK_ERRNO(pread(fd, data, 8, -1), EINVAL);
    CHECK_ERRNO(pread(fd, (void *)-4096L, 8, at), EFAULT);
    CHECK_ERRNO(syscall(SYS_pread64, fd, 8L, 8L, at), EFAULT);
    CHECK_ERRNO(syscall(SYS_preadv, fd, 8L, 1L, at, 0L), EFAULT);
    CHECK_ERRNO(syscall(SYS_preadv, fd, &part, -1L, at, 0L), EINVAL);
    CHECK_ERRNO(preadv2(fd, &part, 1, at, RWF_DSYNC), EOPNOTSUPP);
    CHECK_ERRNO((long)mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0), ENODEV);
    CHECK_ERRNO((long)mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, at), ENODEV);
    CHECK_ERRNO((long)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0), ENODEV);
}

/**
 * A front end differs: the launcher's seccomp filter sees the registers of a call but not its file.
 * It traps only transfers at the offsets of VFIO's 255 regions (SyscallFilter.swift), so that
 * transfers of other files are not delayed. read(2) has no offset. The launcher's own answers at
 * other offsets are in launcher_front.
 */
static void test_other_offsets(int fd)
{
    static const uint64_t offsets[] = {0, 4, 4095, 1ull << 20, 1ull << 50};

    for (size_t i = 0; i < sizeof(offsets) / sizeof(*offsets); i++)
        test_offset(fd, offsets[i]);
    CHECK_ERRNO(pread(fd, (void *)-4096L, 8, 0), EFAULT);
    /* CUSE files have no position: read(2) reads at offset 0. */
    CHECK(read(fd, data, 32) == 32 && matches(data, 32, 0));
    CHECK(preadv2(fd, &(struct iovec){data, 32}, 1, -1, 0) == 32 && matches(data, 32, 0));
}

void test_offsets(void)
{
    int fd = open_offsets_node();

    for (unsigned region = 0; region < 9; region++)
        test_offset(fd, TEST_REGION(region) + 0x18);
    test_offset(fd, TEST_REGION(6) + 0x10);
    test_offset(fd, TEST_REGION(0) + 4095);
    test_errors(fd);
    if (front() == CUSE)
        test_other_offsets(fd);
    close(fd);
}

/**
 * Transfers that FUSE does not pass on as they are: of a buffer that ends in a hole FUSE sends the
 * part before it, of a long transfer at most 32 pages at a time, and of a vector not where an
 * element ends.
 */
void test_split(void)
{
    enum { PAGES = 48, LENGTH = PAGES << 12 };
    unsigned char *memory = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *end = memory + LENGTH - 4096;
    struct iovec pieces[PAGES - 1], ends[] = {{memory, 8}, {end - 4, 8}, {memory, 8}};
    uint64_t at = TEST_REGION(3);
    int fd = open_offsets_node();

    munmap(end, 4096);
    for (size_t i = 0; i < PAGES - 1; i++)
        pieces[i] = (struct iovec){memory + (i << 12), 16};
    CHECK_ERRNO(pread(fd, end - 100, 200, at + 77), EFAULT);
    CHECK(matches(end - 100, 100, at + 77));
    CHECK_ERRNO(pread(fd, memory + 16, LENGTH - 16, at + 7), EFAULT);
    CHECK(matches(memory + 16, LENGTH - 4096 - 16, at + 7));
    expected(memory, LENGTH - 4096, at + 9);
    CHECK_ERRNO(pwrite(fd, end - 100, 200, at + LENGTH - 4096 - 100 + 9), EFAULT);
    CHECK_ERRNO(pwrite(fd, memory, LENGTH, at + 9), EFAULT);
    CHECK(pwrite(fd, memory, LENGTH - 4096, at + 9) == LENGTH - 4096);
    CHECK(preadv(fd, ends, 3, at + 5) == 8 && matches(memory, 8, at + 5));
    CHECK(matches(end - 4, 4, at + 13));
    CHECK_ERRNO(preadv(fd, ends + 1, 2, at + 5), EFAULT);
    CHECK(preadv(fd, pieces, PAGES - 1, at + 3) == 16 * (PAGES - 1));
    for (size_t i = 0; i < PAGES - 1; i++)
        CHECK(matches(memory + (i << 12), 16, at + 3 + 16 * i));
    CHECK(pwritev(fd, pieces, PAGES - 1, at + 3) == 16 * (PAGES - 1));
    CHECK_ERRNO(pwritev(fd, pieces, PAGES - 1, at + 4), EIO);
    CHECK_ERRNO(preadv2(fd, pieces, 1, at, RWF_DSYNC), EOPNOTSUPP);
    munmap(memory, LENGTH - 4096);
    close(fd);
}

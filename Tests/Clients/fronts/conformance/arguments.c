/* SPDX-License-Identifier: Apache-2.0 */
/* Argument structs, and memory that they point to. */
#include "conformance.h"

#include <sys/mman.h>

static char *anonymous(size_t length)
{
    return mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/** The device reads and stores a struct in one piece, and answers in its first 24 bytes. */
static void test_struct(int fd, long page)
{
    char *pages = anonymous(2 * page);
    struct test_argument *edge = (void *)(pages + page - sizeof(*edge)), ok = {.size = sizeof(ok)};

    mprotect(pages + page, page, PROT_NONE);
    CHECK(request(fd, TEST_ECHO, 41) == 42);
    CHECK(ioctl(fd, TEST_RETURN, &(struct test_argument){.size = sizeof(ok), .value = 7}) == 7);
    CHECK_ERRNO(ioctl(fd, TEST_ECHO, NULL), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEST_ECHO, (void *)-1L), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEST_ECHO, (void *)(1UL << 63)), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEST_ECHO, pages + page), EFAULT);
    *edge = ok;
    CHECK(ioctl(fd, TEST_ECHO, edge) == 0 && edge->value == 1);
    edge = (void *)((char *)edge + 4);
    memcpy(edge, &ok, sizeof(ok) - 4);
    memcpy(pages, &ok, sizeof(ok));
    CHECK_ERRNO(ioctl(fd, TEST_ECHO, edge), EFAULT); /* ends in the second page */
    mprotect(pages, page, PROT_READ);
    CHECK_ERRNO(ioctl(fd, TEST_ECHO, edge), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEST_ECHO, pages), EFAULT); /* can be read, but not stored */
    CHECK_ERRNO(ioctl(fd, TEST_ECHO, &(struct test_argument){.size = 8}), EINVAL);
    munmap(pages, 2 * page);
}

/** The device reads 48 bytes and stores 16 bytes behind them. */
static void test_exchange(int fd, long page)
{
    struct test_exchange exchange = {.in = {40, 0, 0, 0, 0, 2}};
    char *pages = anonymous(2 * page);

    CHECK(ioctl(fd, TEST_EXCHANGE, &exchange) == 0 && exchange.out[0] == 42);
    CHECK_ERRNO(ioctl(fd, TEST_EXCHANGE, 8), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEST_EXCHANGE, ~0UL), EFAULT);
    munmap(pages + page, page);
    CHECK(ioctl(fd, TEST_EXCHANGE, pages + page - sizeof(exchange)) == 0);
    CHECK_ERRNO(ioctl(fd, TEST_EXCHANGE, pages + page - 48), EFAULT);
    mprotect(pages, page, PROT_READ);
    CHECK_ERRNO(ioctl(fd, TEST_EXCHANGE, pages), EFAULT);
    munmap(pages, page);
}

void test_arguments(void)
{
    long page = sysconf(_SC_PAGESIZE);
    int fd = open_node();
    struct test_argument ok = {.size = sizeof(ok)};

    test_struct(fd, page);
    test_exchange(fd, page);
    CHECK(ioctl(fd, TEST_NULL, 0) == 0);
    CHECK_ERRNO(ioctl(fd, TEST_UNKNOWN, &ok), ENOTTY);
    CHECK_ERRNO(ioctl(fd, TEST_UNKNOWN, NULL), ENOTTY);
    /* The device gets all bits of the request. */
    CHECK_ERRNO(ioctl(fd, 0xc0100000 | TEST_ECHO, &ok), ENOTTY);
    close(fd);
}

static long sum(int fd, const void *pointer, uint64_t length)
{
    struct test_argument argument = {sizeof(argument), 0, (uintptr_t)pointer, length};

    return ioctl(fd, TEST_SUM, &argument) < 0 ? -1 : (long)argument.value;
}

static long fill(int fd, void *pointer, uint64_t length, int byte)
{
    struct test_argument argument = {sizeof(argument), byte, (uintptr_t)pointer, length};

    return ioctl(fd, TEST_FILL, &argument);
}

void test_pointers(void)
{
    int fd = open_node();
    /* more than the 128 KiB of a FUSE message */
    size_t length = 1 << 20;
    unsigned char *big = (void *)anonymous(length);

    CHECK(fill(fd, big, length, 3) == 0);
    CHECK(big[0] == 3 && big[length / 2] == 3 && big[length - 1] == 3);
    CHECK(sum(fd, big, length) == (long)(3 * length));
    munmap(big + 4096, 4096);
    CHECK_ERRNO(sum(fd, big, 8192), EFAULT);
    CHECK_ERRNO(fill(fd, big, 8192, 5), EFAULT);
    CHECK(big[0] == 5 && big[4095] == 5); /* the bytes before the unmapped page */
    CHECK_ERRNO(sum(fd, (void *)-4096L, 8), EFAULT);
    munmap(big, length);
    close(fd);
}

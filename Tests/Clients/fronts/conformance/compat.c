/* SPDX-License-Identifier: Apache-2.0 */
/* 32-bit system calls by the i386 entry (int 0x80), which a 64-bit program can use, too. */
#include "conformance.h"

#ifdef __x86_64__
#include <sys/mman.h>

/** Issues an i386 system call. All pointers must be below 4 GiB. */
static long call32(long number, long a, long b, long c, long d, long e)
{
    long result;

    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "r8", "r9", "r10", "r11", "memory");
    return (int)result;
}

void test_compat(void)
{
    enum { ioctl32 = 54, getpid32 = 20, pread32 = 180, pwrite32 = 181 };
    struct test_argument *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    long at = (long)low;

    if (call32(getpid32, 0, 0, 0, 0, 0) != getpid()) {
        skipped = "this kernel has no 32-bit calls";
        return;
    }
    int fd = open_node(), offsets = open_offsets_node(), number = next_queue_number(fd);
    *low = (struct test_argument){.size = sizeof(*low), .value = 41};
    CHECK(call32(ioctl32, fd, TEST_ECHO, at, 0, 0) == 0 && low->value == 42);
    CHECK(call32(ioctl32, fd, TEST_ECHO, 0, 0, 0) == -EFAULT);
    CHECK(call32(ioctl32, fd, TEST_ECHO, 0xfffffff0, 0, 0) == -EFAULT);
    CHECK(call32(ioctl32, fd, TEST_UNKNOWN, at, 0, 0) == -ENOTTY);
    /*
     * A front end differs: the CUSE server cannot create a file descriptor in a caller of a 32-bit
     * system call, because it would have to inject system calls of that ABI.
     */
    if (front() == CUSE) {
        CHECK(call32(ioctl32, fd, TEST_MAKE_QUEUE, at, 0, 0) == -EOPNOTSUPP);
    } else {
        CHECK(call32(ioctl32, fd, TEST_MAKE_QUEUE, at, 0, 0) == 0 && (int)low->value == number);
        close(number);
    }

    unsigned char *data = (unsigned char *)low;
    CHECK(call32(pread32, offsets, at, 64, 0x10, 0x700) == 64);
    for (int i = 0; i < 64; i++)
        CHECK(data[i] == test_byte((0x700ull << 32 | 0x10) + i));
    CHECK(call32(pwrite32, offsets, at, 64, 0x10, 0x700) == 64);
    CHECK(call32(pwrite32, offsets, at, 64, 0x11, 0x700) == -EIO);
    close(offsets);
    close(fd);
    munmap(low, 4096);
}
#else
void test_compat(void)
{
    skipped = "only x86-64 has these calls";
}
#endif

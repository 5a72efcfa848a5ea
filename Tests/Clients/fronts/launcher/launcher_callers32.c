/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 32-bit program without a C library under the launcher. Its system calls have other numbers and
 * its structs other layouts. Prints "ok" and exits with status 0, or prints which check has failed.
 */
#include "../lib/test_requests.h"

enum {
    SYS_exit = 1,
    SYS_write = 4,
    SYS_open = 5,
    SYS_ioctl = 54,
    SYS_pread64 = 180,
    SYS_mmap2 = 192,
    SYS_stat64 = 195,
    SYS_fstat64 = 197,
    SYS_preadv = 333,
};

static long call(long number, long a, long b, long c, long d, long e)
{
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory");
    return result;
}

/** Maps readable and writable memory by mmap2. `page` is the offset in pages. */
static long map(long length, long flags, long fd, long page)
{
    /* The sixth argument is in ebp, which the compiler may use itself. */
    struct {
        long length, flags, fd, page;
    } arguments = {length, flags, fd, page};
    long result;
    __asm__ volatile("push %%ebp\n\tpush %%ebx\n\t"
                     "mov 0(%%ecx), %%edx\n\tmov 4(%%ecx), %%esi\n\t"
                     "mov 8(%%ecx), %%edi\n\tmov 12(%%ecx), %%ebp\n\t"
                     "mov %%edx, %%ecx\n\tmov $3, %%edx\n\txor %%ebx, %%ebx\n\t"
                     "int $0x80\n\tpop %%ebx\n\tpop %%ebp"
                     : "=a"(result), "+c"((long){(long)&arguments})
                     : "0"(SYS_mmap2)
                     : "edx", "esi", "edi", "memory");
    return result;
}

static void finish(const char *text, int length, int status)
{
    call(SYS_write, 1, (long)text, length, 0, 0);
    call(SYS_exit, status, 0, 0, 0, 0);
    __builtin_unreachable();
}

static void check(int condition, char number)
{
    char text[] = "FAILED 32-bit: check ?\n";
    text[sizeof text - 3] = number;
    if (!condition)
        finish(text, sizeof text - 1, 1);
}

struct vector {
    uint32_t base, length;
};

static struct test_exchange exchange = {.in = {40, 0, 0, 0, 0, 2}};
static struct test_argument queue = {.size = sizeof(queue), .value = 1};
static struct test_argument identity = {.size = sizeof(identity)};
static unsigned char status[96];

/** Returns the number of the open file, or a negative errno. */
static long open_id(long fd)
{
    long result = call(SYS_ioctl, fd, TEST_OPEN_ID, (long)&identity, 0, 0);

    return result < 0 ? result : (long)identity.value;
}

static int matches(const uint64_t *value, uint64_t offset)
{
    const unsigned char *bytes = (const void *)value;

    for (int i = 0; i < 8; i++)
        if (bytes[i] != test_byte(offset + i))
            return 0;
    return 1;
}

void _start(void)
{
    enum { ENXIO = 6, EFAULT = 14, EINVAL = 22, O_RDWR = 2, S_IFCHR = 0x20 };
    long fd = call(SYS_open, (long)"/dev/vfio/devices/vfio0", O_RDWR, 0, 0, 0);
    check(fd >= 0 && open_id(fd) > 0, '1');
    check(call(SYS_ioctl, fd, TEST_EXCHANGE, (long)&exchange, 0, 0) == 0, '2');
    check(exchange.out[0] == 42, '3');
    check(call(SYS_ioctl, fd, TEST_EXCHANGE, 8, 0, 0) == -EFAULT, '4');

    uint64_t at = TEST_REGION(7) + 8, values[2] = {0};
    check(call(SYS_pread64, fd, (long)values, 8, (long)at, (long)(at >> 32)) == 8, '5');
    check(matches(&values[0], at), '6');
    struct vector vector[2] = {{(uint32_t)&values[1], 8}, {(uint32_t)&values[0], 8}};
    check(call(SYS_preadv, fd, (long)vector, 2, (long)at, (long)(at >> 32)) == 16, '7');
    check(matches(&values[1], at) && matches(&values[0], at + 8), '8');

    check(call(SYS_fstat64, fd, (long)status, 0, 0, 0) == 0 && (status[17] & 0xf0) == S_IFCHR, '9');
    check(call(SYS_stat64, (long)"/dev/iommu", (long)status, 0, 0, 0) == 0, 'a');
    check((status[17] & 0xf0) == S_IFCHR, 'b');
    check(call(SYS_ioctl, fd, TEST_MAKE_QUEUE, (long)&queue, 0, 0) == 0, 'c');
    check((int)queue.value >= 960, 'c');

    fd = call(SYS_open, (long)"/dev/iommu", O_RDWR, 0, 0, 0);
    check(map(TEST_MAP_LENGTH, 1, fd, 0) == -ENXIO, 'd');
    check(map(TEST_MAP_LENGTH, 2, fd, TEST_MAP_OFFSET >> 12) == -EINVAL, 'e');
    long region = map(TEST_MAP_LENGTH, 1, fd, TEST_MAP_OFFSET >> 12);
    check((unsigned long)region < -4095UL, 'f');
    check(*(int *)region == open_id(fd), 'g');
    finish("ok 32-bit\n", 10, 0);
}

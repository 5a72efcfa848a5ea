/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pin keeps the page: what a device and the CPU see after the process has changed its mappings,
 * its protections or its file, and which mappings can be pinned at all.
 *
 * An access over two pages on its slow path uses the pages that the page table of a device has
 * pinned, as the device does.
 */
#include "mock/mock.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

enum { SLOW = MOCK_ACCESS_RW_SLOW_PATH, WRITE = MOCK_ACCESS_RW_WRITE, IOVA = 0x1000000 };
enum { PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS, RW = PROT_READ | PROT_WRITE };

static unsigned char *scratch;
static uint32_t ioas;
static int access_fd;

/** Maps `pages` pages at a fixed address that no other region uses. */
static unsigned char *memory(unsigned pages, int protection, int flags, int fd)
{
    unsigned char *at = mmap((void *)0x220000000000, pages * PAGE, protection,
                             flags | MAP_FIXED, fd, 0);

    if (at == MAP_FAILED)
        exit(2);
    name_region("memory", at, pages * PAGE);
    return at;
}

static void device_reads(void)
{
    memset(scratch, 0, 2 * PAGE);
    access_rw(access_fd, IOVA, 2 * PAGE, scratch, SLOW);
    printf("the device reads %02x %02x\n", scratch[0], scratch[PAGE]);
}

static void device_writes(unsigned char value)
{
    memset(scratch, value, 2 * PAGE);
    access_rw(access_fd, IOVA, 2 * PAGE, scratch, SLOW | WRITE);
}

static void cpu_reads(const volatile unsigned char *at)
{
    printf("the CPU reads %02x %02x\n", at[0], at[PAGE]);
}

/** Begins a part in which two pages with the value 0x11 are pinned. */
static unsigned char *pinned(const char *title)
{
    unsigned char *at = memory(2, RW, PRIVATE, -1);

    section(title);
    memset(at, 0x11, 2 * PAGE);
    map(ioas, (uintptr_t)at, 2 * PAGE, FIXED | R | W, IOVA);
    return at;
}

static void end(unsigned char *at)
{
    unmap(ioas, IOVA, 2 * PAGE);
    munmap(at, 2 * PAGE);
}

static void test_mappings(uint32_t hwpt)
{
    unsigned char *at, *moved;

    at = pinned("other memory at the address");
    check_map(hwpt, IOVA, 2 * PAGE, at);
    memory(2, RW, PRIVATE, -1);
    memset(at, 0x22, 2 * PAGE);
    check_map(hwpt, IOVA, 2 * PAGE, at);
    device_reads();
    device_writes(0x33);
    cpu_reads(at);
    device_reads();
    section("the new memory is mapped too");
    map(ioas, (uintptr_t)at, 2 * PAGE, FIXED | R | W, IOVA + 0x10000);
    check_map(hwpt, IOVA + 0x10000, 2 * PAGE, at);
    device_reads();
    unmap(ioas, IOVA + 0x10000, 2 * PAGE);
    device_reads();
    end(at);

    at = pinned("unmapped");
    munmap(at, 2 * PAGE);
    device_reads();
    device_writes(0x44);
    device_reads();
    unmap(ioas, IOVA, 2 * PAGE);

    at = pinned("dropped");
    madvise(at, 2 * PAGE, MADV_DONTNEED);
    cpu_reads(at);
    device_reads();
    device_writes(0x55);
    cpu_reads(at);
    end(at);

    at = pinned("moved");
    moved = mremap(at, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)0x230000000000);
    memset(moved, 0x66, 2 * PAGE);
    device_reads();
    device_writes(0x77);
    cpu_reads(moved);
    unmap(ioas, IOVA, 2 * PAGE);
    munmap(moved, 2 * PAGE);
}

static void test_protections(void)
{
    unsigned char *at;

    at = pinned("made read-only");
    mprotect(at, 2 * PAGE, PROT_READ);
    device_writes(0x22);
    cpu_reads(at);
    end(at);

    at = pinned("made inaccessible");
    mprotect(at, 2 * PAGE, PROT_NONE);
    device_writes(0x33);
    device_reads();
    mprotect(at, 2 * PAGE, PROT_READ);
    cpu_reads(at);
    end(at);
}

static void test_processes(void)
{
    unsigned char *at;
    pid_t child;
    int status;

    at = pinned("a child after the pin");
    fflush(stdout);
    child = fork();
    if (child == 0) {
        cpu_reads(at);
        memset(at, 0x22, 2 * PAGE);
        device_reads();
        device_writes(0x33);
        cpu_reads(at);
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, &status, 0);
    cpu_reads(at);
    device_reads();
    end(at);

    section("memory of a child that exits");
    fflush(stdout);
    child = fork();
    if (child == 0) {
        pinned("in the child");
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, &status, 0);
    device_reads();
    device_writes(0x44);
    device_reads();
    unmap(ioas, IOVA, 2 * PAGE);

    section("memory of a child that is killed");
    fflush(stdout);
    child = fork();
    if (child == 0) {
        pinned("in the child");
        fflush(stdout);
        raise(SIGKILL);
    }
    waitpid(child, &status, 0);
    device_reads();
    device_writes(0x55);
    device_reads();
    unmap(ioas, IOVA, 2 * PAGE);

    section("memory of a child that executes another program");
    fflush(stdout);
    child = fork();
    if (child == 0) {
        pinned("in the child");
        fflush(stdout);
        execl("/bin/true", "true", NULL);
    }
    waitpid(child, &status, 0);
    device_reads();
    device_writes(0x66);
    device_reads();
    unmap(ioas, IOVA, 2 * PAGE);
}

static void test_files(void)
{
    int fd = memfd_create("memory", MFD_ALLOW_SEALING);
    unsigned char *at, bytes[2 * PAGE];

    memset(bytes, 0x11, sizeof bytes);
    section("a private mapping of a file");
    if (write(fd, bytes, sizeof bytes) != sizeof bytes)
        exit(2);
    at = memory(2, RW, MAP_PRIVATE, fd);
    cpu_reads(at);
    map(ioas, (uintptr_t)at, 2 * PAGE, FIXED | R, IOVA);
    memset(bytes, 0x22, sizeof bytes);
    pwrite(fd, bytes, sizeof bytes, 0);
    cpu_reads(at);
    device_reads();
    memset(at, 0x33, 2 * PAGE);
    device_reads();
    end(at);
    section("truncated");
    at = memory(2, RW, MAP_PRIVATE, fd);
    map(ioas, (uintptr_t)at, 2 * PAGE, FIXED | R | W, IOVA);
    if (ftruncate(fd, 0))
        exit(2);
    device_reads();
    device_writes(0x44);
    device_reads();
    end(at);
    close(fd);
}

static void test_pinnable(void)
{
    unsigned char *at;

    section("a guard page in the middle");
    at = memory(3, RW, PRIVATE, -1);
    memset(at, 0x11, 3 * PAGE);
    /* Linux before 6.13 has no guard pages. No memory has the same effect there. */
    if (madvise(at + PAGE, PAGE, MADV_GUARD_INSTALL))
        munmap(at + PAGE, PAGE);
    map(ioas, (uintptr_t)at, 3 * PAGE, FIXED | R | W, IOVA);
    map(ioas, (uintptr_t)at, 3 * PAGE, FIXED | R, IOVA);
    map(ioas, (uintptr_t)at, PAGE, FIXED | R | W, IOVA);
    unmap(ioas, IOVA, PAGE);
    munmap(at, 3 * PAGE);

    section("memory that cannot be read");
    at = memory(2, PROT_WRITE, PRIVATE, -1);
    map(ioas, (uintptr_t)at, 2 * PAGE, FIXED | R, IOVA);
    *(volatile unsigned char *)at = 0x11;
    map(ioas, (uintptr_t)at, 2 * PAGE, FIXED | R, IOVA);
    *(volatile unsigned char *)(at + PAGE) = 0x11;
    map(ioas, (uintptr_t)at, 2 * PAGE, FIXED | R, IOVA);
    device_reads();
    unmap(ioas, IOVA, 2 * PAGE);
    munmap(at, 2 * PAGE);
    at = memory(2, PROT_WRITE, PRIVATE, -1);
    map(ioas, (uintptr_t)at, 2 * PAGE, FIXED | W, IOVA);
    unmap(ioas, IOVA, 2 * PAGE);
    munmap(at, 2 * PAGE);

    section("memory that cannot be written");
    at = memory(2, PROT_READ, PRIVATE, -1);
    map(ioas, (uintptr_t)at, 2 * PAGE, FIXED | R | W, IOVA);
    map(ioas, (uintptr_t)at, 2 * PAGE, FIXED | R, IOVA);
    device_reads();
    end(at);
}

static void test_userfaultfd(void)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP};
    struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_WP};
    struct uffdio_writeprotect protect = {.mode = UFFDIO_WRITEPROTECT_MODE_WP};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1 /* UFFD_USER_MODE_ONLY */);
    unsigned char *at = pinned("write-protected by userfaultfd");

    range.range.start = protect.range.start = (uintptr_t)at;
    range.range.len = protect.range.len = 2 * PAGE;
    printf("api -> %d\n", ioctl(fd, UFFDIO_API, &api));
    printf("register -> %d\n", ioctl(fd, UFFDIO_REGISTER, &range));
    printf("protect -> %d\n", ioctl(fd, UFFDIO_WRITEPROTECT, &protect));
    device_writes(0x22);
    cpu_reads(at);
    device_reads();
    end(at);
    close(fd);
}

int main(void)
{
    struct mock_device device;

    part = "mock";
    begin("a pin keeps the page");
    scratch = map_region_at("scratch", 0x210000000000, 2 * PAGE, RW);
    ioas = ioas_alloc();
    mock_domain(ioas, &device);
    access_fd = create_access("access", ioas, 0);
    test_mappings(device.hwpt);
    test_protections();
    test_files();
    test_pinnable();
    test_userfaultfd();
    test_processes();
    return 0;
}

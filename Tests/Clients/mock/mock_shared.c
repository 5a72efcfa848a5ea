/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pins of shared memory. Pages that are not there are faulted in through the mapping of the
 * client, so its userfaultfd is asked. Seals do not concern pins of a mapping that is writable. The
 * pages of a file that a file system writes back cannot be pinned for writing.
 */
#include "transcript/pinned.h"
#include "mock/mock.h"

#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/syscall.h>

enum { PAGES = 8 };

static uint32_t ioas;
static int access_fd;
static struct mock_device device;

static int make_file(const char *name, unsigned flags, uint64_t length)
{
    int fd = memfd_create(name, flags);

    if (fd < 0 || ftruncate(fd, length))
        exit(2);
    return fd;
}

static unsigned char *map_shared(const char *name, int fd, uintptr_t at, size_t length)
{
    int flags = MAP_SHARED | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS : 0);
    void *base = mmap((void *)at, length, PROT_READ | PROT_WRITE, flags, fd, 0);

    if (base == MAP_FAILED)
        exit(2);
    name_region(name, base, length);
    return base;
}

/** Prints the first byte of each page as the device reads it, and as the CPU does. */
static void print_pages(const unsigned char *memory, uint64_t iova, unsigned pages)
{
    static unsigned char copies[PAGES * PAGE];

    name_region("copies", copies, sizeof(copies));
    access_rw(access_fd, iova, pages * PAGE, copies, MOCK_ACCESS_RW_SLOW_PATH);
    for (unsigned page = 0; page != pages; page++)
        printf(" %#x/%#x", copies[page * PAGE], memory[page * PAGE]);
    printf("\n");
}

/** Writes `value` to the first byte of each page as a device does. */
static void write_pages(uint64_t iova, unsigned pages, unsigned char value)
{
    static unsigned char bytes[PAGES * PAGE];

    name_region("bytes", bytes, sizeof(bytes));
    memset(bytes, value, sizeof(bytes));
    access_rw(access_fd, iova, pages * PAGE, bytes,
              MOCK_ACCESS_RW_WRITE | MOCK_ACCESS_RW_SLOW_PATH);
}

/* ---- userfaultfd -------------------------------------------------------------------------- */

static struct {
    int fd;
    unsigned char *memory;
    pthread_t thread;
    char faults[4 * PAGES + 1];
} handler;

/** Resolves one fault. A missing page gets the bytes 0x40 + its number. */
static void resolve(uint64_t address, uint64_t flags)
{
    static unsigned char page[PAGE] __attribute__((aligned(PAGE)));
    uint64_t start = address & ~(uint64_t)(PAGE - 1);
    unsigned number = (start - (uintptr_t)handler.memory) / PAGE;
    char *end = handler.faults + strlen(handler.faults);

    if (flags & UFFD_PAGEFAULT_FLAG_WP) {
        struct uffdio_writeprotect range = {.range = {start, PAGE}};

        sprintf(end, " w%u", number);
        ioctl(handler.fd, UFFDIO_WRITEPROTECT, &range);
    } else if (flags & UFFD_PAGEFAULT_FLAG_MINOR) {
        struct uffdio_continue range = {.range = {start, PAGE}};

        sprintf(end, " c%u", number);
        ioctl(handler.fd, UFFDIO_CONTINUE, &range);
    } else {
        struct uffdio_copy range = {.dst = start, .src = (uintptr_t)page, .len = PAGE};

        memset(page, 0x40 + number, PAGE);
        sprintf(end, " m%u", number);
        ioctl(handler.fd, UFFDIO_COPY, &range);
    }
}

static void *handle(void *unused)
{
    struct uffd_msg message;

    (void)unused;
    while (read(handler.fd, &message, sizeof(message)) == sizeof(message)) {
        if (message.event == UFFD_EVENT_PAGEFAULT)
            resolve(message.arg.pagefault.address, message.arg.pagefault.flags);
        else
            return NULL; /* the range was unmapped */
    }
    return NULL;
}

static void start_handler(unsigned char *memory, uint64_t features, uint64_t mode)
{
    struct uffdio_api api = {.api = UFFD_API, .features = features | UFFD_FEATURE_EVENT_UNMAP};
    struct uffdio_register range = {.range = {(uintptr_t)memory, PAGES * PAGE}, .mode = mode};

    handler.memory = memory;
    handler.faults[0] = 0;
    handler.fd = syscall(SYS_userfaultfd, O_CLOEXEC);
    if (handler.fd < 0) { /* vm.unprivileged_userfaultfd is 0 */
        handler.fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
        api.features &= ~(uint64_t)UFFD_FEATURE_EVENT_UNMAP;
    }
    if (handler.fd < 0 || ioctl(handler.fd, UFFDIO_API, &api) ||
        ioctl(handler.fd, UFFDIO_REGISTER, &range) ||
        pthread_create(&handler.thread, NULL, handle, NULL))
        exit(2);
}

static void print_faults(void)
{
    printf("faults:%s\n", handler.faults);
    handler.faults[0] = 0;
}

static void stop_handler(void)
{
    pthread_cancel(handler.thread);
    pthread_join(handler.thread, NULL);
    close(handler.fd);
}

static void test_missing(const char *title, int fd, uintptr_t at)
{
    unsigned char *memory;

    section("missing pages of %s", title);
    memory = map_shared("shared", fd, at, PAGES * PAGE);
    if (fd >= 0 && pwrite(fd, "\x11", 1, 2 * PAGE) != 1)
        exit(2);
    start_handler(memory, UFFD_FEATURE_MISSING_SHMEM, UFFDIO_REGISTER_MODE_MISSING);
    map(ioas, (uintptr_t)memory, 4 * PAGE, FIXED | R | W, MOCK_START);
    print_faults();
    map(ioas, (uintptr_t)memory + 4 * PAGE, 2 * PAGE, FIXED | R, MOCK_START + 4 * PAGE);
    print_faults();
    map(ioas, (uintptr_t)memory, 6 * PAGE, FIXED | R | W, MOCK_START + 0x10000);
    print_faults();
    stop_handler();
    print_pages(memory, MOCK_START, 6);
    print_pages(memory, MOCK_START + 0x10000, 6);
    unmap(ioas, 0, UINT64_MAX);
    munmap(memory, PAGES * PAGE);
}

static void end_late_pages(void *memory, int fd)
{
    stop_handler();
    unmap(ioas, 0, UINT64_MAX);
    munmap(memory, PAGES * PAGE);
    close(fd);
}

static void test_minor(uintptr_t at)
{
    int fd = make_file("minor", 0, PAGES * PAGE);
    unsigned char *memory;

    section("pages that are in the file and not in the mapping");
    memory = map_shared("shared", fd, at, PAGES * PAGE);
    for (unsigned page = 0; page != PAGES; page++)
        if (pwrite(fd, "\x21\x22\x23\x24\x25\x26\x27\x28" + page, 1, page * PAGE) != 1)
            exit(2);
    memory[PAGE] = 0x31;
    start_handler(memory, UFFD_FEATURE_MINOR_SHMEM, UFFDIO_REGISTER_MODE_MINOR);
    map(ioas, (uintptr_t)memory, 4 * PAGE, FIXED | R | W, MOCK_START);
    print_faults();
    map(ioas, (uintptr_t)memory, 6 * PAGE, FIXED | R, MOCK_START + 0x10000);
    print_faults();
    print_pages(memory, MOCK_START, 4);
    end_late_pages(memory, fd);
}

static void test_protected(uintptr_t at)
{
    int fd = make_file("protected", 0, PAGES * PAGE);
    struct uffdio_writeprotect range = {.mode = UFFDIO_WRITEPROTECT_MODE_WP};
    unsigned char *memory;

    section("pages that userfaultfd protects from writes");
    memory = map_shared("shared", fd, at, PAGES * PAGE);
    memset(memory, 0x12, PAGES * PAGE);
    start_handler(memory, UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_PAGEFAULT_FLAG_WP,
                  UFFDIO_REGISTER_MODE_WP);
    range.range = (struct uffdio_range){(uintptr_t)memory + PAGE, 2 * PAGE};
    if (ioctl(handler.fd, UFFDIO_WRITEPROTECT, &range))
        exit(2);
    map(ioas, (uintptr_t)memory, 4 * PAGE, FIXED | R, MOCK_START);
    print_faults();
    map(ioas, (uintptr_t)memory, 4 * PAGE, FIXED | R | W, MOCK_START + 0x10000);
    print_faults();
    range.range = (struct uffdio_range){(uintptr_t)memory, PAGE};
    if (ioctl(handler.fd, UFFDIO_WRITEPROTECT, &range))
        exit(2);
    write_pages(MOCK_START + 0x10000, 4, 0x77);
    print_faults();
    print_pages(memory, MOCK_START, 4);
    end_late_pages(memory, fd);
}

/* ---- seals -------------------------------------------------------------------------------- */

static void test_future_write(uintptr_t at)
{
    int fd = name_fd("memfd", make_file("sealed", MFD_ALLOW_SEALING, PAGES * PAGE));
    unsigned char *memory = map_shared("shared", fd, at, PAGES * PAGE);

    section("F_SEAL_FUTURE_WRITE of a file that is mapped");
    memset(memory, 0x13, PAGES * PAGE);
    map(ioas, (uintptr_t)memory, 2 * PAGE, FIXED | R | W, MOCK_START);
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE))
        exit(2);
    map(ioas, (uintptr_t)memory, 4 * PAGE, FIXED | R | W, MOCK_START + 0x10000);
    map_file(ioas, fd, 0, 4 * PAGE, FIXED | R | W, MOCK_START + 0x20000);
    write_pages(MOCK_START, 2, 0x51);
    print_pages(memory, MOCK_START, 2);
    print_pages(memory, MOCK_START + 0x10000, 4);
    print_pages(memory, MOCK_START + 0x20000, 4);
    write_pages(MOCK_START + 0x10000, 4, 0x52);
    print_pages(memory, MOCK_START, 2);
    print_pages(memory, MOCK_START + 0x10000, 4);
    print_pages(memory, MOCK_START + 0x20000, 4);
    write_pages(MOCK_START + 0x20000, 4, 0x53);
    print_pages(memory, MOCK_START + 0x10000, 4);
    memory[PAGE] = 0x54;
    print_pages(memory, MOCK_START + 0x20000, 4);
    unmap(ioas, 0, UINT64_MAX);
    munmap(memory, PAGES * PAGE);
    close(fd);
}

static void test_sealed(void)
{
    int fd = name_fd("memfd", make_file("sealed", MFD_ALLOW_SEALING, PAGES * PAGE));
    unsigned char byte;

    section("F_SEAL_WRITE");
    if (pwrite(fd, "\x14", 1, 0) != 1 || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE))
        exit(2);
    map_file(ioas, fd, 0, 2 * PAGE, FIXED | R | W, MOCK_START + 0x40000);
    map_file(ioas, fd, 0, 2 * PAGE, FIXED | R, MOCK_START + 0x50000);
    write_pages(MOCK_START + 0x40000, 2, 0x61);
    if (pread(fd, &byte, 1, 0) != 1)
        exit(2);
    print_pages(&byte, MOCK_START + 0x40000, 1);
    print_pages(&byte, MOCK_START + 0x50000, 1);
    unmap(ioas, 0, UINT64_MAX);
    close(fd);
}

/* ---- pages that there are not enough of, and files ----------------------------------------- */

static void test_huge_pages(void)
{
    int fd = name_fd("huge pages", memfd_create("huge", MFD_HUGETLB));

    section("more huge pages than there are");
    if (fd < 0 || ftruncate(fd, 1UL << 40))
        exit(2);
    map_file(ioas, fd, 0, 0x20000000, FIXED | R | W, MOCK_START);
    map_file(ioas, fd, 0, 0x20000000, FIXED | R, MOCK_START);
    close(fd);
}

static void test_disk_file(uintptr_t at)
{
    static const char path[] = "/var/tmp/mock_shared.XXXXXX";
    char name[sizeof(path)];
    unsigned char *memory;
    int fd = mkstemp(strcpy(name, path));

    section("a mapped file that a file system writes back");
    if (fd < 0 || ftruncate(fd, PAGES * PAGE))
        exit(2);
    memory = map_shared("mapped file", fd, at, PAGES * PAGE);
    memset(memory, 0x15, PAGES * PAGE);
    map(ioas, (uintptr_t)memory, 2 * PAGE, FIXED | R | W, MOCK_START);
    map(ioas, (uintptr_t)memory, 2 * PAGE, FIXED | R, MOCK_START);
    print_pages(memory, MOCK_START, 2);
    name_fd("file", fd);
    map_file(ioas, fd, 0, PAGE, FIXED | R, MOCK_START + 0x10000);
    section("after its removal, without a descriptor");
    unlink(name);
    close(fd);
    map(ioas, (uintptr_t)memory + 4 * PAGE, 2 * PAGE, FIXED | R | W, MOCK_START + 0x20000);
    map(ioas, (uintptr_t)memory + 4 * PAGE, 2 * PAGE, FIXED | R, MOCK_START + 0x20000);
    print_pages(memory + 4 * PAGE, MOCK_START + 0x20000, 2);
    unmap(ioas, 0, UINT64_MAX);
    munmap(memory, PAGES * PAGE);
}

static void test_limit(uintptr_t at)
{
    int fd = name_fd("memfd", make_file("sparse", 0, 1UL << 40));
    unsigned char *memory;

    section("a sparse file above RLIMIT_MEMLOCK");
    set_memlock_limit(8);
    map_file(ioas, fd, 0, 1UL << 28, FIXED | R | W, MOCK_START);
    map_file(ioas, fd, 0, 9 * PAGE, FIXED | R | W, MOCK_START);
    map_file(ioas, fd, (1UL << 40) - PAGE, 2 * PAGE, FIXED | R | W, MOCK_START);
    map_file(ioas, fd, (1UL << 40) - PAGE, 20 * PAGE, FIXED | R | W, MOCK_START);
    map_file(ioas, fd, 0, 8 * PAGE, FIXED | R | W, MOCK_START);
    map_file(ioas, fd, 0, PAGE, FIXED | R | W, MOCK_START + 0x10000);
    unmap(ioas, 0, UINT64_MAX);
    memory = map_shared("shared", fd, at, 32 * PAGE);
    map(ioas, (uintptr_t)memory, 32 * PAGE, FIXED | R | W, MOCK_START);
    mprotect(memory + 30 * PAGE, PAGE, PROT_READ);
    map(ioas, (uintptr_t)memory, 32 * PAGE, FIXED | R | W, MOCK_START);
    map(ioas, (uintptr_t)memory, 8 * PAGE, FIXED | R | W, MOCK_START);
    unmap(ioas, 0, UINT64_MAX);
    munmap(memory, 32 * PAGE);
    close(fd);
}

static void test_all(uintptr_t at)
{
    int missing = make_file("missing", 0, PAGES * PAGE);

    ioas = ioas_alloc();
    mock_domain(ioas, &device);
    access_fd = create_access("access", ioas, 0);
    test_missing("a memfd", missing, at);
    test_missing("shared anonymous memory", -1, at);
    test_minor(at);
    test_protected(at);
    test_future_write(at);
    test_sealed();
    test_huge_pages();
    test_disk_file(at);
}

int main(void)
{
    static const uintptr_t at = 0x300000000000;

    part = "mock";
    begin("pins of shared memory");
    test_all(at);
    if (!geteuid() && setresuid(65532, 65532, 65532))
        return 2;
    test_limit(at);
    return 0;
}

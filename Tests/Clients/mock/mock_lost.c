/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pin keeps the page. Pages that a shared file loses while they are mapped for a device stay the
 * device's pages; the file gets new ones, which later mappings use.
 *
 * Accesses take the slow path and at least two pages: a single page of a process is pinned anew for
 * each access (iommufd: iopt_pages_rw_page()).
 */
#include "mock/mock.h"

enum { PAGES = 8 };

static const uintptr_t place = 0x300000000000;
static uint32_t ioas, other_ioas;
static struct mock_device device, other_device;
static int access_fd, other_access;
static int memory_file;
static unsigned char *memory;

/* ---- contents ----------------------------------------------------------------------------- */

/** Prints the first byte of each page as a device reads it. */
static void print_device(int access, uint64_t iova, unsigned pages)
{
    static unsigned char bytes[PAGES * PAGE];

    memset(bytes, 0xee, sizeof(bytes));
    name_region("bytes", bytes, sizeof(bytes));
    access_rw(access, iova, pages * PAGE, bytes, MOCK_ACCESS_RW_SLOW_PATH);
    printf("device:");
    for (unsigned page = 0; page != pages; page++)
        printf(" %#x", bytes[page * PAGE]);
    printf("\n");
}

static void print_cpu(void)
{
    printf("CPU:   ");
    for (unsigned page = 0; page != PAGES; page++)
        printf(" %#x", memory[page * PAGE]);
    printf("\n");
}

/** Writes to the first byte of each page as a device does. */
static void write_device(int access, uint64_t iova, unsigned pages, unsigned char value)
{
    static unsigned char bytes[PAGES * PAGE];

    name_region("bytes", bytes, sizeof(bytes));
    for (unsigned page = 0; page != PAGES; page++)
        bytes[page * PAGE] = value + page;
    access_rw(access, iova, pages * PAGE, bytes,
              MOCK_ACCESS_RW_WRITE | MOCK_ACCESS_RW_SLOW_PATH);
}

static void write_cpu(unsigned first, unsigned pages, unsigned char value)
{
    for (unsigned page = first; page != first + pages; page++)
        memory[page * PAGE] = value + page;
}

/* ---- ways to take pages away --------------------------------------------------------------- */

static void punch(unsigned first, unsigned pages)
{
    printf("FALLOC_FL_PUNCH_HOLE");
    print_result(fallocate(memory_file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first * PAGE,
                           pages * PAGE));
    printf("\n");
}

static void drop(unsigned first, unsigned pages)
{
    printf("MADV_REMOVE");
    print_result(madvise(memory + first * PAGE, pages * PAGE, MADV_REMOVE));
    printf("\n");
}

static void truncate_and_grow(unsigned first, unsigned pages)
{
    (void)pages;
    printf("ftruncate");
    print_result(ftruncate(memory_file, first * PAGE));
    print_result(ftruncate(memory_file, PAGES * PAGE));
    printf("\n");
}

static void make_memory(void)
{
    memory_file = name_fd("memfd", memfd_create("memory", 0));
    memory = mmap((void *)place, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                  memory_file, 0);
    if (memory == MAP_FAILED || ftruncate(memory_file, PAGES * PAGE))
        exit(2);
    name_region("memory", memory, PAGES * PAGE);
    write_cpu(0, PAGES, 0x10);
}

static void drop_memory(void)
{
    unmap(ioas, 0, UINT64_MAX);
    unmap(other_ioas, 0, UINT64_MAX);
    munmap(memory, PAGES * PAGE);
    close(memory_file);
}

/* ---- tests -------------------------------------------------------------------------------- */

static void map_memory(uint32_t to, bool by_file, unsigned page, unsigned pages, uint64_t iova)
{
    if (by_file)
        map_file(to, memory_file, page * PAGE, pages * PAGE, FIXED | R | W, iova);
    else
        map(to, (uintptr_t)memory + page * PAGE, pages * PAGE, FIXED | R | W, iova);
}

/** The pages 2 and 3 are taken away; the file gets new ones before or after the device looks. */
static void test_loss(const char *title, bool by_file, bool refill_first,
                      void (*take)(unsigned first, unsigned pages))
{
    section("%s, mapped by %s, %s", title, by_file ? "file" : "address",
            refill_first ? "written by the CPU at once" : "written by the CPU later");
    make_memory();
    map_memory(ioas, by_file, 0, PAGES, MOCK_START);
    copy(other_ioas, ioas, MOCK_START + PAGE, 4 * PAGE, FIXED | R | W, MOCK_START);
    take(2, 2);
    if (refill_first)
        write_cpu(2, 2, 0x90);
    print_device(access_fd, MOCK_START, PAGES);
    print_cpu();
    write_cpu(2, 2, 0xa0);
    print_device(access_fd, MOCK_START, PAGES);
    check_map(device.hwpt, MOCK_START, 2 * PAGE, memory);
    check_map(device.hwpt, MOCK_START + 2 * PAGE, PAGE, memory + 2 * PAGE);
    check_refs(memory, PAGE, 1);
    check_refs(memory + 2 * PAGE, PAGE, 0);
    printf("the device writes:\n");
    write_device(access_fd, MOCK_START + PAGE, 4, 0x50);
    print_device(access_fd, MOCK_START, PAGES);
    print_device(other_access, MOCK_START, 4);
    print_cpu();
    printf("a second mapping has the new pages:\n");
    map_memory(ioas, by_file, 1, 4, MOCK_START + 0x10000);
    print_device(access_fd, MOCK_START + 0x10000, 4);
    check_map(device.hwpt, MOCK_START + 0x10000, 4 * PAGE, memory + PAGE);
    check_refs(memory + PAGE, PAGE, 2);
    check_refs(memory + 2 * PAGE, PAGE, 1);
    write_device(access_fd, MOCK_START + 0x10000, 4, 0x60);
    print_device(access_fd, MOCK_START, PAGES);
    print_cpu();
    printf("pages are lost again:\n");
    take(3, 2);
    write_cpu(2, 4, 0xb0);
    print_device(access_fd, MOCK_START + 0x10000, 4);
    print_device(other_access, MOCK_START, 4);
    map_memory(other_ioas, by_file, 1, 4, MOCK_START + 0x10000);
    print_device(other_access, MOCK_START + 0x10000, 4);
    unmap(ioas, 0, UINT64_MAX);
    print_device(other_access, MOCK_START, 4);
    unmap(other_ioas, MOCK_START, 4 * PAGE);
    map_memory(ioas, by_file, 0, PAGES, MOCK_START);
    print_device(access_fd, MOCK_START, PAGES);
    check_refs(memory + PAGE, 4 * PAGE, 2);
    drop_memory();
}

/** The file stays short. Pages behind its end are the device's only. */
static void test_truncation(bool by_file)
{
    section("a file that stays short, mapped by %s", by_file ? "file" : "address");
    make_memory();
    map_memory(ioas, by_file, 0, PAGES, MOCK_START);
    printf("ftruncate");
    print_result(ftruncate(memory_file, 3 * PAGE));
    printf("\n");
    print_device(access_fd, MOCK_START, PAGES);
    write_device(access_fd, MOCK_START, PAGES, 0x70);
    print_device(access_fd, MOCK_START, PAGES);
    map_memory(ioas, by_file, 0, 3, MOCK_START + 0x10000);
    map_memory(ioas, by_file, 0, 4, MOCK_START + 0x20000);
    if (ftruncate(memory_file, PAGES * PAGE))
        exit(2);
    print_cpu();
    print_device(access_fd, MOCK_START, PAGES);
    map_memory(ioas, by_file, 0, PAGES, MOCK_START + 0x20000);
    print_device(access_fd, MOCK_START + 0x20000, PAGES);
    drop_memory();
}

static void test_shared_anonymous(void)
{
    section("shared anonymous memory");
    memory = mmap((void *)place, PAGES * PAGE, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (memory == MAP_FAILED)
        exit(2);
    memory_file = open("/dev/null", O_RDWR);
    name_region("memory", memory, PAGES * PAGE);
    write_cpu(0, PAGES, 0x20);
    map_memory(ioas, false, 0, PAGES, MOCK_START);
    drop(1, 3);
    print_cpu();
    write_cpu(1, 1, 0x30);
    print_device(access_fd, MOCK_START, PAGES);
    map_memory(ioas, false, 0, PAGES, MOCK_START + 0x10000);
    print_device(access_fd, MOCK_START + 0x10000, PAGES);
    printf("unmapped by the process:\n");
    munmap(memory, PAGES * PAGE);
    write_device(access_fd, MOCK_START, PAGES, 0x70);
    print_device(access_fd, MOCK_START, PAGES);
    print_device(access_fd, MOCK_START + 0x10000, PAGES);
    memory = mmap((void *)place, PAGES * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    drop_memory();
}

/** Zero pages that the CPU reads again differ from the pinned ones only by later writes. */
static void test_zero_pages(void)
{
    section("zero pages");
    make_memory();
    memset(memory, 0, PAGES * PAGE);
    map_memory(ioas, true, 0, PAGES, MOCK_START);
    punch(0, PAGES);
    print_cpu();
    print_device(access_fd, MOCK_START, PAGES);
    write_cpu(0, PAGES, 0x40);
    print_device(access_fd, MOCK_START, PAGES);
    write_device(access_fd, MOCK_START, PAGES, 0x70);
    print_cpu();
    drop_memory();
}

int main(void)
{
    part = "mock";
    begin("pages that a shared file loses");
    ioas = ioas_alloc();
    other_ioas = ioas_alloc();
    mock_domain(ioas, &device);
    mock_domain(other_ioas, &other_device);
    access_fd = create_access("access", ioas, 0);
    other_access = create_access("other access", other_ioas, 0);
    for (int by_file = 0; by_file != 2; by_file++) {
        for (int refill = 0; refill != 2; refill++) {
            test_loss("a punched hole", by_file, refill, punch);
            test_loss("a truncated file", by_file, refill, truncate_and_grow);
        }
        test_truncation(by_file);
    }
    test_loss("removed memory", false, true, drop);
    test_shared_anonymous();
    test_zero_pages();
    return 0;
}

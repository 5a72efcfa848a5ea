/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accesses: in-kernel users of an IOAS that read, write or pin its mappings without a page table.
 * An access affects unmapping, the alignment of the IOAS and its destruction.
 */
#include "mock/mock.h"

enum { PIN = MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES, WRITE = MOCK_ACCESS_RW_WRITE };

static unsigned char *scratch;

static void test_creation(void)
{
    uint32_t ioas = ioas_alloc();
    int access;

    create_access("access", 0, 0);
    create_access("access", 99, 0);
    create_access("access", ioas, 2);
    access = create_access("access", ioas, 0);
    print_iova_ranges(ioas);
    section("its id is hidden, and it uses the IOAS");
    ioas_alloc();
    destroy(2);
    destroy(3);
    destroy(ioas);
    close(access);
    destroy(2);
    destroy(ioas);
    section("one that pins raises the alignment");
    ioas = ioas_alloc();
    access = create_access("pinning", ioas, PIN);
    print_iova_ranges(ioas);
    map(ioas, (uintptr_t)buffer, 0x800, FIXED | R, 0x10000);
    map(ioas, (uintptr_t)buffer + 0x800, PAGE, FIXED | R, 0x10000);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R, 0x10800);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R, 0x10000);
    close(access);
    print_iova_ranges(ioas);
    map(ioas, (uintptr_t)buffer, 0x800, FIXED | R, 0x20000);
    create_access("pinning", ioas, PIN);
    create_access("access", ioas, 0);
}

static void test_read_and_write(void)
{
    uint32_t ioas = ioas_alloc();
    int access = create_access("access", ioas, 0);

    map(ioas, (uintptr_t)buffer, 2 * PAGE, FIXED | R | W, 0x10000);
    map(ioas, (uintptr_t)buffer + 2 * PAGE + 1, PAGE, FIXED | R | W, 0x12000);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R, 0x20000);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | W, 0x30000);
    map(ioas, 0, PAGE, FIXED | R | W, 0x40000);
    for (unsigned i = 0; i != 4 * PAGE; i++)
        buffer[i] = (unsigned char)(i / 16);
    watch("scratch", scratch, 64);
    watch("memory", buffer, 3 * PAGE + 64);
    memset(scratch, 0xee, 64);
    section("reading");
    access_rw(access, 0x10100, 16, scratch, 0);
    access_rw(access, 0x10ff8, 16, scratch, 0);
    access_rw(access, 0x11ff8, 16, scratch, 0);
    access_rw(access, 0x12ff0, 16, scratch, 0);
    access_rw(access, 0x12ff1, 16, scratch, 0);
    access_rw(access, 0xffff, 2, scratch, 0);
    access_rw(access, 0x50000, 1, scratch, 0);
    access_rw(access, 0x10000, 0, scratch, 0);
    access_rw(access, 0x20000, 8, scratch, 0);
    access_rw(access, 0x30000, 8, scratch, 0);
    access_rw(access, 0x40000, 8, scratch, 0);
    access_rw(access, UINT64_MAX, 1, scratch, 0);
    access_rw(access, UINT64_MAX, 2, scratch, 0);
    access_rw(access, 0x10000, (16 << 20) + 1, scratch, 0);
    access_rw(access, 0x10000, 8, scratch, 2);
    access_rw(access, 0x10000, 8, NULL, 0);
    access_rw(-1, 0x10000, 8, scratch, 0);
    access_rw(iommufd, 0x10000, 8, scratch, 0);
    section("writing");
    memset(scratch, 0x77, 64);
    access_rw(access, 0x10040, 16, scratch, WRITE);
    access_rw(access, 0x10ff8, 16, scratch, WRITE);
    access_rw(access, 0x11ff8, 16, scratch, WRITE);
    access_rw(access, 0x12ff8, 16, scratch, WRITE);
    access_rw(access, 0x20000, 8, scratch, WRITE);
    access_rw(access, 0x30000, 8, scratch, WRITE);
    access_rw(access, 0x40000, 8, scratch, WRITE);
    access_rw(access, 0x10000, 8, NULL, WRITE);
    access_rw(access, 0x10080, 16, scratch, WRITE | MOCK_ACCESS_RW_SLOW_PATH);
    unwatch("scratch");
    unwatch("memory");
    close(access);
}

static void test_pins(void)
{
    uint32_t ioas = ioas_alloc();
    int access = create_access("pinning", ioas, PIN);
    uint32_t first;

    map(ioas, (uintptr_t)buffer, 4 * PAGE, FIXED | R | W, 0x10000);
    map(ioas, (uintptr_t)buffer + 4 * PAGE, 2 * PAGE, FIXED | R, 0x14000);
    map(ioas, 0, PAGE, FIXED | R, 0x20000);
    section("pinning");
    first = access_pages(access, 0x10000, PAGE, buffer, 0);
    access_pages(access, 0x10000, PAGE, buffer + PAGE, 0);
    access_pages(access, 0x11800, 0x1000, buffer + 0x1800, 0);
    access_pages(access, 0x13000, 2 * PAGE, buffer + 3 * PAGE, 0);
    access_pages(access, 0x13000, 2 * PAGE, buffer + 3 * PAGE, MOCK_FLAGS_ACCESS_WRITE);
    access_pages(access, 0x10000, PAGE, buffer, MOCK_FLAGS_ACCESS_WRITE);
    access_pages(access, 0x20000, PAGE, NULL, 0);
    access_pages(access, 0x30000, PAGE, NULL, 0);
    access_pages(access, 0x15000, 2 * PAGE, NULL, 0);
    access_pages(access, 0x10000, 0, NULL, 0);
    access_pages(access, UINT64_MAX, 2, NULL, 0);
    access_pages(access, 0x10000, PAGE, NULL, 2);
    access_pages(access, 0x10000, (16 << 20) + 1, NULL, 0);
    access_pages(-1, 0x10000, PAGE, NULL, 0);
    check_refs(buffer, PAGE, 1);
    check_refs(buffer, PAGE, 2);
    check_refs(buffer + 6 * PAGE, PAGE, 0);
    section("unpinning");
    destroy_access_pages(access, first);
    destroy_access_pages(access, first);
    destroy_access_pages(access, 99);
    destroy_access_pages(-1, 0);
    section("unmapping what is pinned asks the access to let go");
    unmap(ioas, 0x10000, 4 * PAGE);
    unmap(ioas, 0x14000, 2 * PAGE);
    check_refs(buffer, 6 * PAGE, 0);
    destroy_access_pages(access, 1);
    close(access);
}

static void test_not_pinning(void)
{
    uint32_t ioas = ioas_alloc();
    int access = create_access("access", ioas, 0);

    section("an access that does not pin");
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R | W, 0x10000);
    access_pages(access, 0x10000, PAGE, buffer, 0);
    close(access);
}

static void test_replace(void)
{
    uint32_t first = ioas_alloc(), second = ioas_alloc();
    int access = create_access("pinning", first, PIN);

    section("moving to another IOAS");
    map(first, (uintptr_t)buffer, PAGE, FIXED | R | W, 0x10000);
    map(second, (uintptr_t)buffer + PAGE, PAGE, FIXED | R | W, 0x10000);
    access_pages(access, 0x10000, PAGE, buffer, 0);
    access_replace(access, second);
    check_refs(buffer, PAGE, 0);
    access_pages(access, 0x10000, PAGE, buffer + PAGE, 0);
    print_iova_ranges(first);
    print_iova_ranges(second);
    destroy(first);
    destroy(second);
    access_replace(access, 99);
    access_replace(access, second);
    access_replace(access, 0);
    access_pages(access, 0x10000, PAGE, NULL, 0);
    access_replace(-1, second);
    first = ioas_alloc();
    map(first, (uintptr_t)buffer, 0x800, FIXED | R | W, 0x10000);
    access_replace(access, first);
    close(access);
}

static void test_splitting(void)
{
    uint32_t ioas = ioas_alloc();
    int access = create_access("pinning", ioas, PIN);
    struct {
        uint32_t argsz, flags;
        uint64_t iova, size;
    } type1 = {24, 0, 0x11000, PAGE};

    section("type1 cannot cut an area that is pinned");
    vfio_ioas(IOMMU_VFIO_IOAS_SET, ioas);
    option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, ioas, 0);
    map(ioas, (uintptr_t)buffer, 4 * PAGE, FIXED | R | W, 0x10000);
    access_pages(access, 0x10000, PAGE, buffer, 0);
    run_raw(_IO(';', 114), (uintptr_t)&type1, "UNMAP_DMA of the second page");
    destroy_access_pages(access, 0);
    run_raw(_IO(';', 114), (uintptr_t)&type1, "UNMAP_DMA of the second page");
    access_pages(access, 0x10000, PAGE, buffer, 0);
    access_pages(access, 0x12000, 2 * PAGE, buffer + 2 * PAGE, 0);
    access_pages(access, 0x10000, 3 * PAGE, buffer, 0);
    close(access);
}

static void test_other_operations(void)
{
    static const uint32_t operations[] = {0, 24, 100, 0xffffffff};
    struct iommu_test_cmd cmd;
    uint32_t ioas = ioas_alloc();

    section("reserved ranges");
    add_reserved(ioas, 0x10000, 0);
    add_reserved(ioas, UINT64_MAX, 2);
    add_reserved(99, 0x10000, PAGE);
    add_reserved(ioas, 0x10000, PAGE);
    add_reserved(ioas, 0x10800, PAGE);
    print_iova_ranges(ioas);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R, 0x10000);
    map(ioas, (uintptr_t)buffer, 1, FIXED | R, 0x117ff);
    map(ioas, (uintptr_t)buffer, 1, FIXED | R, 0x11800);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R, 0xf000);
    add_reserved(ioas, 0xf000, 1);
    add_reserved(ioas, 0, PAGE);
    iova_ranges(ioas, NULL, 0);
    print_iova_ranges(ioas);
    for (unsigned i = 0; i != 20; i++)
        map(ioas, (uintptr_t)buffer, PAGE, R, 0);
    allow_iova_list(ioas, (struct iommu_iova_range[]){{0x11000, 0x1ffff}}, 1);
    allow_iova_list(ioas, (struct iommu_iova_range[]){{0x12000, 0x1ffff}}, 1);
    add_reserved(ioas, 0x1f000, PAGE);
    section("limits and operations that there are not");
    memory_limit(0);
    memory_limit(11);
    memory_limit(65536);
    for (size_t i = 0; i != COUNT(operations); i++) {
        cmd = test_command(operations[i], ioas);
        run(&UNKNOWN_OPERATION, &cmd);
    }
}

int main(void)
{
    part = "mock";
    begin("an access");
    make_buffer(16);
    scratch = map_region_at("scratch", 0x210000000000, PAGE, PROT_READ | PROT_WRITE);
    memset(buffer, 0, 16 * PAGE);
    test_creation();
    reopen("reading and writing");
    test_read_and_write();
    reopen("pins");
    test_pins();
    test_not_pinning();
    reopen("replacing");
    test_replace();
    reopen("splitting");
    test_splitting();
    reopen("other operations");
    test_other_operations();
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The accounting of pages that a mock device pins. The pages of a caller with CAP_IPC_LOCK are not
 * charged, those of others by user or by process; and a call that exceeds the limit fails.
 */
#include "transcript/pinned.h"
#include "transcript/type1.h"
#include "mock/mock.h"

static const struct command TYPE1_MAP = TYPE1_MAP_AS("TYPE1_MAP");

enum { MODE = IOMMU_OPTION_RLIMIT_MODE, SET = IOMMU_OPTION_OP_SET };

/** The device's page table has no entries without a permission, and the limit is tested later. */
static void test_no_permission(uint32_t ioas)
{
    struct vfio_iommu_type1_dma_map map = {.argsz = sizeof(map),
                                           .vaddr = (uintptr_t)buffer,
                                           .iova = MOCK_START,
                                           .size = 9 * PAGE};

    section("more than the limit, and without a permission");
    vfio_ioas(IOMMU_VFIO_IOAS_SET, ioas);
    run(&TYPE1_MAP, &map);
    map.flags = VFIO_DMA_MAP_FLAG_READ;
    run(&TYPE1_MAP, &map);
    map.flags = 0;
    map.size = PAGE;
    run(&TYPE1_MAP, &map);
    vfio_ioas(IOMMU_VFIO_IOAS_CLEAR, 0);
}

/** Maps up to 9 pages in an IOAS with a device, where 8 pages are allowed. */
static void test_mappings(void)
{
    struct mock_device device;
    uint32_t ioas = ioas_alloc();

    mock_domain(ioas, &device);
    print_pinned();
    map(ioas, (uintptr_t)buffer, 4 * PAGE, FIXED | R | W, MOCK_START);
    print_pinned();
    section("the same pages again are counted again");
    map(ioas, (uintptr_t)buffer, 4 * PAGE, FIXED | R | W, MOCK_START + 0x10000);
    print_pinned();
    section("one more");
    map(ioas, (uintptr_t)buffer + 8 * PAGE, PAGE, FIXED | R | W, MOCK_START + 0x20000);
    print_pinned();
    map(ioas, (uintptr_t)buffer + 8 * PAGE, 1 << 11, FIXED | R | W, MOCK_START + 0x20000);
    map(ioas, (uintptr_t)buffer + 8 * PAGE, 8 * PAGE, R | W, 0);
    print_pinned();
    section("a copy shares its pins");
    copy(ioas, ioas, MOCK_START, 4 * PAGE, FIXED | R, MOCK_START + 0x30000);
    print_pinned();
    unmap(ioas, MOCK_START, 4 * PAGE);
    print_pinned();
    unmap(ioas, MOCK_START + 0x30000, 4 * PAGE);
    print_pinned();
    section("room again");
    map(ioas, (uintptr_t)buffer + 8 * PAGE, 4 * PAGE, FIXED | R | W, MOCK_START);
    unmap(ioas, 0, UINT64_MAX);
    print_pinned();
    section("half a page counts as one; two pages are touched by one page's length");
    map(ioas, (uintptr_t)buffer, 0x800, FIXED | R | W, MOCK_START);
    print_pinned();
    map(ioas, (uintptr_t)buffer + 0x800, PAGE, FIXED | R | W, MOCK_START + 0x10000);
    print_pinned();
    unmap(ioas, 0, UINT64_MAX);
    test_no_permission(ioas);
    section("the limit is met when the device comes");
    destroy(device.stdev);
    map(ioas, (uintptr_t)buffer, 9 * PAGE, FIXED | R | W, MOCK_START);
    print_pinned();
    mock_domain(ioas, &device);
    print_pinned();
    print_iova_ranges(ioas);
    unmap(ioas, 0, UINT64_MAX);
    map(ioas, (uintptr_t)buffer, 8 * PAGE, FIXED | R | W, MOCK_START);
    mock_domain(ioas, &device);
    print_pinned();
    destroy(device.stdev);
    print_pinned();
    unmap(ioas, 0, UINT64_MAX);
}

static void test_accesses(void)
{
    uint32_t ioas = ioas_alloc();
    int access = create_access("pinning", ioas, MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES);

    section("an access");
    map(ioas, (uintptr_t)buffer, 16 * PAGE, FIXED | R | W, 0x10000);
    access_pages(access, 0x10000, 8 * PAGE, buffer, 0);
    print_pinned();
    access_pages(access, 0x10000, 8 * PAGE, buffer, 0);
    print_pinned();
    access_pages(access, 0x18000, PAGE, buffer + 8 * PAGE, 0);
    destroy_access_pages(access, 0);
    print_pinned();
    access_pages(access, 0x18000, PAGE, buffer + 8 * PAGE, 0);
    destroy_access_pages(access, 1);
    print_pinned();
    access_pages(access, 0x18000, PAGE, buffer + 8 * PAGE, 0);
    print_pinned();
    close(access);
    print_pinned();
    destroy(ioas);
}

/** Moves the accounting of file mappings to another process. */
static void test_change_process(void)
{
    struct iommu_ioas_change_process change = {.size = sizeof(change)};
    struct mock_device device;
    uint32_t ioas = ioas_alloc();
    int memory = name_fd("memfd", memfd_create("memory", 0));
    int status;

    section("another process takes over");
    if (ftruncate(memory, 4 * PAGE))
        exit(2);
    mock_domain(ioas, &device);
    map_file(ioas, memory, 0, 4 * PAGE, FIXED | R | W, MOCK_START);
    print_pinned();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        print_pinned();
        run(&IOAS_CHANGE_PROCESS, &change);
        print_pinned();
        set_memlock_limit(3);
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, &status, 0);
    print_pinned();
    set_memlock_limit(3);
    run(&IOAS_CHANGE_PROCESS, &change);
    print_pinned();
    set_memlock_limit(8);
    run(&IOAS_CHANGE_PROCESS, &change);
    print_pinned();
}

int main(void)
{
    part = "mock";
    make_buffer(16);
    memset(buffer, 1, 16 * PAGE);
    int by_user, by_process;

    begin("a caller with CAP_IPC_LOCK");
    set_memlock_limit(8);
    test_mappings();
    test_accesses();
    reopen("nobody, by user");
    by_user = iommufd;
    by_process = open_iommufd();
    iommufd = by_process;
    option(MODE, SET, 0, 1);
    iommufd = by_user;
    if (!geteuid() && setresuid(65534, 65534, 65534))
        return 2;
    set_memlock_limit(8);
    test_mappings();
    test_accesses();
    test_change_process();
    close(by_user);
    iommufd = by_process;
    section("nobody, by process");
    test_mappings();
    test_accesses();
    test_change_process();
    return 0;
}

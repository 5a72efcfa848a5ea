/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How pinned pages are accounted, seen with a mock device: not at all for a caller who may lock
 * memory (CAP_IPC_LOCK), by user or by process for others; and what happens at the limit.
 */
#include "transcript/pinned.h"
#include "mock/mock.h"

#include <sys/resource.h>

enum { MODE = IOMMU_OPTION_RLIMIT_MODE, SET = IOMMU_OPTION_OP_SET };

static void limit(unsigned pages)
{
    struct rlimit value;

    getrlimit(RLIMIT_MEMLOCK, &value);
    value.rlim_cur = pages * PAGE;
    printf("RLIMIT_MEMLOCK %u pages", pages);
    print_result(setrlimit(RLIMIT_MEMLOCK, &value));
    printf("\n");
}

/** An IOAS with a device, 8 pages allowed: what is counted, how often, and what 9 pages give. */
static void account(void)
{
    struct mock_device device;
    uint32_t ioas = ioas_alloc();

    mock_domain(ioas, &device);
    show_pinned();
    map(ioas, (uintptr_t)buffer, 4 * PAGE, FIXED | R | W, MOCK_START);
    show_pinned();
    section("the same pages again are counted again");
    map(ioas, (uintptr_t)buffer, 4 * PAGE, FIXED | R | W, MOCK_START + 0x10000);
    show_pinned();
    section("one more");
    map(ioas, (uintptr_t)buffer + 8 * PAGE, PAGE, FIXED | R | W, MOCK_START + 0x20000);
    show_pinned();
    map(ioas, (uintptr_t)buffer + 8 * PAGE, 1 << 11, FIXED | R | W, MOCK_START + 0x20000);
    map(ioas, (uintptr_t)buffer + 8 * PAGE, 8 * PAGE, R | W, 0);
    show_pinned();
    section("a copy shares its pins");
    copy(ioas, ioas, MOCK_START, 4 * PAGE, FIXED | R, MOCK_START + 0x30000);
    show_pinned();
    unmap(ioas, MOCK_START, 4 * PAGE);
    show_pinned();
    unmap(ioas, MOCK_START + 0x30000, 4 * PAGE);
    show_pinned();
    section("room again");
    map(ioas, (uintptr_t)buffer + 8 * PAGE, 4 * PAGE, FIXED | R | W, MOCK_START);
    unmap(ioas, 0, UINT64_MAX);
    show_pinned();
    section("half a page counts as one; two pages are touched by one page's length");
    map(ioas, (uintptr_t)buffer, 0x800, FIXED | R | W, MOCK_START);
    show_pinned();
    map(ioas, (uintptr_t)buffer + 0x800, PAGE, FIXED | R | W, MOCK_START + 0x10000);
    show_pinned();
    unmap(ioas, 0, UINT64_MAX);
    section("the limit is met when the device comes");
    destroy(device.stdev);
    map(ioas, (uintptr_t)buffer, 9 * PAGE, FIXED | R | W, MOCK_START);
    show_pinned();
    mock_domain(ioas, &device);
    show_pinned();
    show_ranges(ioas);
    unmap(ioas, 0, UINT64_MAX);
    map(ioas, (uintptr_t)buffer, 8 * PAGE, FIXED | R | W, MOCK_START);
    mock_domain(ioas, &device);
    show_pinned();
    destroy(device.stdev);
    show_pinned();
    unmap(ioas, 0, UINT64_MAX);
}

static void accesses(void)
{
    uint32_t ioas = ioas_alloc();
    int access = create_access("pinning", ioas, MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES);

    section("an access");
    map(ioas, (uintptr_t)buffer, 16 * PAGE, FIXED | R | W, 0x10000);
    access_pages(access, 0x10000, 8 * PAGE, buffer, 0);
    show_pinned();
    access_pages(access, 0x10000, 8 * PAGE, buffer, 0);
    show_pinned();
    access_pages(access, 0x18000, PAGE, buffer + 8 * PAGE, 0);
    destroy_access_pages(access, 0);
    show_pinned();
    access_pages(access, 0x18000, PAGE, buffer + 8 * PAGE, 0);
    destroy_access_pages(access, 1);
    show_pinned();
    access_pages(access, 0x18000, PAGE, buffer + 8 * PAGE, 0);
    show_pinned();
    close(access);
    show_pinned();
    destroy(ioas);
}

/** Files: another process takes over what is counted. */
static void change_process(void)
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
    show_pinned();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        show_pinned();
        run(&IOAS_CHANGE_PROCESS, &change);
        show_pinned();
        limit(3);
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, &status, 0);
    show_pinned();
    limit(3);
    run(&IOAS_CHANGE_PROCESS, &change);
    show_pinned();
    limit(8);
    run(&IOAS_CHANGE_PROCESS, &change);
    show_pinned();
}

int main(void)
{
    part = "mock";
    make_buffer(16);
    memset(buffer, 1, 16 * PAGE);
    int by_user, by_process;

    begin("a caller with CAP_IPC_LOCK");
    limit(8);
    account();
    accesses();
    reopen("nobody, by user");
    by_user = iommufd;
    by_process = open_iommufd();
    iommufd = by_process;
    option(MODE, SET, 0, 1);
    iommufd = by_user;
    if (!geteuid() && setresuid(65534, 65534, 65534))
        return 2;
    limit(8);
    account();
    accesses();
    change_process();
    close(by_user);
    iommufd = by_process;
    section("nobody, by process");
    account();
    accesses();
    change_process();
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An IOAS with an attached device: its alignment and its usable ranges, mapping, which now pins
 * pages and can fail, and the objects that can be destroyed.
 */
#include "mock/mock.h"

static void test_ids_and_ranges(void)
{
    struct mock_device device, second;
    uint32_t ioas = ioas_alloc();

    mock_domain(ioas, &device);
    print_iova_ranges(ioas);
    iova_ranges(ioas, NULL, 0);
    option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_GET, ioas, 0);
    section("a second device shares the page table");
    mock_domain(ioas, &second);
    section("what may be destroyed");
    destroy(ioas);
    destroy(device.hwpt);
    destroy(device.idev);
    destroy(device.stdev);
    destroy(device.hwpt);
    destroy(second.stdev);
    print_iova_ranges(ioas);
    destroy(ioas);
    ioas_alloc();
}

static void test_bad_attach(void)
{
    struct mock_device device;
    uint32_t ioas;

    section("what cannot be attached to");
    mock_domain(0, &device);
    mock_domain(99, &device);
    ioas = ioas_alloc();
    mock_domain(ioas, &device);
    mock_domain(device.stdev, &device);
    mock_domain(device.idev, &device);
    mock_domain(device.hwpt, &device);
    mock_domain_flags(ioas, 1 << 5, &device);
    mock_domain_flags(ioas, MOCK_FLAGS_DEVICE_NO_DIRTY, &device);
}

/**
 * Attaching fails when mappings of the IOAS do not fit the aperture or the page size of the IOMMU.
 */
static void test_unsuitable_mappings(void)
{
    static const struct {
        const char *why;
        uint64_t iova, length;
        unsigned offset;
    } cases[] = {
        {"below the aperture", 0x100000, PAGE, 0},
        {"across its start", MOCK_START - PAGE, 2 * PAGE, 0},
        {"above it", 0x80000000, PAGE, 0},
        {"across its end", 0x7ffff000, 2 * PAGE, 0},
        {"at an IOVA of 1 KiB", MOCK_START + 0x400, PAGE, 0x400},
        {"of 1 KiB", MOCK_START, 0x400, 0},
        {"at an offset of 1 KiB", MOCK_START, PAGE, 0x400},
        {"of 2 KiB, within the page", MOCK_START + 0x800, 0x800, 0x800},
        {"of 2 KiB, at another place of the page", MOCK_START, 0x800, 0x800},
    };

    for (size_t i = 0; i != COUNT(cases); i++) {
        struct mock_device device;
        uint32_t ioas;

        reopen("a mapping before the device");
        section("%s", cases[i].why);
        ioas = ioas_alloc();
        map(ioas, (uintptr_t)buffer + cases[i].offset, cases[i].length, FIXED | R | W,
            cases[i].iova);
        mock_domain(ioas, &device);
        print_iova_ranges(ioas);
        ioas_alloc();
    }
    section("allowed ranges that the device does not have");
    struct mock_device device;
    uint32_t ioas = ioas_alloc();
    allow_iova_list(ioas, (struct iommu_iova_range[]){{0x1000, 0x1fff}}, 1);
    mock_domain(ioas, &device);
    allow_iova_list(ioas, (struct iommu_iova_range[]){{MOCK_START, MOCK_START + 0xffff}}, 1);
    mock_domain(ioas, &device);
    allow_iova_list(ioas, (struct iommu_iova_range[]){{0x1000, 0x1fff}}, 1);
    allow_iova_list(ioas, (struct iommu_iova_range[]){{0x1000, MOCK_START}}, 1);
    allow_iova_list(ioas, (struct iommu_iova_range[]){{MOCK_START, 0x80000000}}, 1);
    allow_iova_list(ioas, (struct iommu_iova_range[]){{MOCK_START, 0x7fffffff}}, 1);
}

static void test_mapping(void)
{
    struct mock_device device;
    uint32_t ioas = ioas_alloc();
    void *readable = map_region_at("readable", 0x210000000000, PAGE, PROT_READ);

    mock_domain(ioas, &device);
    section("alignment");
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R | W, MOCK_START);
    map(ioas, (uintptr_t)buffer + 0x800, 0x800, FIXED | R | W, MOCK_START + 0x2800);
    map(ioas, (uintptr_t)buffer + 0x800, 0x800, FIXED | R | W, MOCK_START + 0x4000);
    map(ioas, (uintptr_t)buffer + 0x400, 0x800, FIXED | R | W, MOCK_START + 0x6000);
    map(ioas, (uintptr_t)buffer, 0x400, FIXED | R | W, MOCK_START + 0x6000);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R | W, MOCK_START + 0x6400);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R | W, MOCK_START - PAGE);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R | W, 0x7ffff000);
    map(ioas, (uintptr_t)buffer, 2 * PAGE, FIXED | R | W, 0x7ffff000);
    check_map(device.hwpt, MOCK_START, PAGE, buffer);
    check_map(device.hwpt, MOCK_START, PAGE, buffer + PAGE);
    check_map(device.hwpt, MOCK_START + 0x2800, 0x800, buffer + 0x800);
    check_map(device.hwpt, MOCK_START + 0x4000, 0x800, buffer + 0x800);
    check_map(device.hwpt, MOCK_START + PAGE, PAGE, buffer);
    check_refs(buffer, PAGE, 4);

    section("automatic placement within the aperture");
    for (unsigned i = 1; i <= 0x10000; i *= 4)
        map(ioas, (uintptr_t)buffer, i * 0x800, R, 0);
    map(ioas, (uintptr_t)buffer + 0x400, 0x800, R, 0);
    map(ioas, (uintptr_t)buffer + 0x800, 0x800, R, 0);
    map(ioas, (uintptr_t)buffer, PAGE, R, 0);

    section("memory that is not there, or not writable");
    unmap(ioas, 0, UINT64_MAX);
    map(ioas, 0, PAGE, FIXED | R, MOCK_START);
    map(ioas, 0xffff888000000000, PAGE, FIXED | R, MOCK_START);
    map(ioas, 0x7ffffffff000, 2 * PAGE, FIXED | R, MOCK_START);
    map(ioas, (uintptr_t)readable, PAGE, FIXED | R, MOCK_START);
    map(ioas, (uintptr_t)readable, PAGE, FIXED | W, MOCK_START + PAGE);
    map(ioas, (uintptr_t)readable, PAGE, FIXED | R | W, MOCK_START + PAGE);
    map(ioas, (uintptr_t)buffer + 15 * PAGE, 2 * PAGE, FIXED | R, MOCK_START + PAGE);
    map(ioas, (uintptr_t)buffer + 15 * PAGE, 2 * PAGE, R, 0);
    map(ioas, (uintptr_t)buffer, 1 << 30, FIXED | R, MOCK_START + PAGE);
    unmap(ioas, 0, UINT64_MAX);
    check_refs(buffer, 16 * PAGE, 0);
    munmap(readable, PAGE);
}

/** Attaching pins the pages of earlier mappings, which can fail. */
static void test_late_device(void)
{
    struct mock_device device;
    uint32_t ioas = ioas_alloc();

    section("a mapping of nothing, then a device");
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R | W, MOCK_START);
    map(ioas, 0, PAGE, FIXED | R, MOCK_START + PAGE);
    mock_domain(ioas, &device);
    print_iova_ranges(ioas);
    check_refs(buffer, PAGE, 0);
    unmap(ioas, MOCK_START + PAGE, PAGE);
    mock_domain(ioas, &device);
    check_refs(buffer, PAGE, 1);
    section("a second IOAS with the same pages");
    uint32_t other = ioas_alloc();
    struct mock_device second;
    copy(other, ioas, MOCK_START, PAGE, FIXED | R | W, MOCK_START + 0x10000);
    mock_domain(other, &second);
    check_refs(buffer, PAGE, 1);
    unmap(ioas, MOCK_START, PAGE);
    check_refs(buffer, PAGE, 1);
    check_map(second.hwpt, MOCK_START + 0x10000, PAGE, buffer);
    destroy(second.stdev);
    check_refs(buffer, PAGE, 0);
    section("unmap with a device: whole areas only");
    map(ioas, (uintptr_t)buffer, 4 * PAGE, FIXED | R | W, MOCK_START);
    unmap(ioas, MOCK_START, PAGE);
    unmap(ioas, MOCK_START, 4 * PAGE);
    check_refs(buffer, 4 * PAGE, 0);
    section("large pages with a device");
    option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, ioas, 0);
    option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, ioas, 1);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R | W, MOCK_START);
    option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, ioas, 0);
}

static void test_replace(void)
{
    struct mock_device device;
    uint32_t first = ioas_alloc(), second = ioas_alloc();

    section("replace");
    mock_domain(first, &device);
    mock_replace(device.stdev, second);
    mock_replace(device.stdev, second);
    mock_replace(device.stdev, first);
    mock_replace(device.stdev, 99);
    mock_replace(device.stdev, device.idev);
    mock_replace(99, first);
    mock_replace(device.idev, first);
    map(second, (uintptr_t)buffer, PAGE, FIXED | R, 0x1000);
    mock_replace(device.stdev, second);
    print_iova_ranges(first);
    print_iova_ranges(second);
}

static void test_files(void)
{
    struct mock_device device;
    uint32_t ioas = ioas_alloc();
    int memory = name_fd("memfd", memfd_create("memory", 0));
    int ends[2];

    if (ftruncate(memory, 4 * PAGE) || pipe(ends))
        exit(2);
    name_fd("pipe", ends[0]);
    mock_domain(ioas, &device);
    section("files with a device");
    map_file(ioas, memory, 0, 4 * PAGE, FIXED | R | W, MOCK_START);
    map_file(ioas, memory, 0, 5 * PAGE, FIXED | R | W, MOCK_START + 0x10000);
    map_file(ioas, memory, 4 * PAGE, PAGE, FIXED | R | W, MOCK_START + 0x20000);
    map_file(ioas, ends[0], 0, PAGE, FIXED | R | W, MOCK_START + 0x30000);
    map_file(ioas, iommufd, 0, PAGE, FIXED | R | W, MOCK_START + 0x30000);
    map_file(ioas, memory, 0x400, PAGE, FIXED | R | W, MOCK_START + 0x30000);
    map_file(ioas, memory, 0x800, PAGE, FIXED | R | W, MOCK_START + 0x30000);
    unsigned char *view = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    name_region("view", view, 4 * PAGE);
    check_map(device.hwpt, MOCK_START, 4 * PAGE, view);
    check_map(device.hwpt, MOCK_START + 0x30000, 0x800, view + 0x800);
    struct iommu_ioas_change_process change = {.size = sizeof(change)};
    run(&IOAS_CHANGE_PROCESS, &change);
}

int main(void)
{
    part = "mock";
    begin("an attached device");
    make_buffer(16);
    memset(buffer, 0, 16 * PAGE);
    test_ids_and_ranges();
    reopen("errors");
    test_bad_attach();
    test_unsuitable_mappings();
    reopen("mapping with a device");
    test_mapping();
    reopen("a late device");
    test_late_device();
    reopen("replacing");
    test_replace();
    reopen("files");
    test_files();
    return 0;
}

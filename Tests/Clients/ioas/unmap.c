/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IOAS_UNMAP of whole areas. The command fails when it reaches an area that the range covers in
 * part. By then it has unmapped the areas before that one.
 */
#include "transcript/ioas.h"

static uintptr_t va;

/**
 * Prints which of the page-sized areas 0x10000, 0x20000, … exist. Mapping there fails with EEXIST.
 */
static void print_areas(uint32_t ioas)
{
    printf("areas:");
    for (uint64_t iova = 0; iova != 0x90000; iova += 0x10000) {
        struct iommu_ioas_map cmd = {.size = sizeof(cmd),
                                     .flags = FIXED | R,
                                     .ioas_id = ioas,
                                     .user_va = va,
                                     .length = 1,
                                     .iova = iova + 0x800};
        struct iommu_ioas_unmap undo = {
            .size = sizeof(undo), .ioas_id = ioas, .iova = cmd.iova, .length = 1};

        if (ioctl(iommufd, IOMMU_IOAS_MAP, &cmd))
            printf(" %#llx", (unsigned long long)iova);
        else
            ioctl(iommufd, IOMMU_IOAS_UNMAP, &undo);
    }
    printf("\n");
}

static void five_areas(uint32_t ioas)
{
    unmap(ioas, 0, UINT64_MAX);
    for (uint64_t iova = 0x10000; iova != 0x60000; iova += 0x10000)
        map(ioas, va, PAGE, FIXED | R, iova);
}

static void test_arguments(uint32_t ioas)
{
    section("arguments, nothing mapped");
    unmap(0, 0x1000, PAGE);
    unmap(ioas + 1, 0x1000, PAGE);
    unmap(ioas, 0x1000, 0);
    unmap(ioas, 0, 0);
    unmap(ioas, 0x1000, PAGE);
    unmap(ioas, 0, 1);
    unmap(ioas, UINT64_MAX, 1);
    unmap(ioas, UINT64_MAX - 1, 1);
    unmap(ioas, UINT64_MAX - 1, 2);
    unmap(ioas, UINT64_MAX - 1, 3);
    unmap(ioas, UINT64_MAX - PAGE + 1, PAGE);
    unmap(ioas, UINT64_MAX - PAGE + 1, PAGE + 1);
    unmap(ioas, 1, UINT64_MAX);
    unmap(ioas, 1, UINT64_MAX - 1);
    unmap(ioas, 2, UINT64_MAX - 1);
    unmap(ioas, 0, UINT64_MAX - 1);
    unmap(ioas, 0, UINT64_MAX);
    unmap(99, 0, UINT64_MAX);
    unmap(99, UINT64_MAX, UINT64_MAX);
}

static void test_ranges(uint32_t ioas)
{
    static const struct {
        uint64_t iova, length;
    } cases[] = {
        {0x10000, 0x1000},  {0x10000, 0xfff},   {0x10001, 0xfff},   {0x10000, 0x1001},
        {0xffff, 0x1002},   {0x10800, 1},       {0, 0x10000},       {0, 0x10001},
        {0x11000, 0xf000},  {0x10000, 0x41000}, {0x10000, 0x40fff}, {0x10001, 0x40fff},
        {0, 0x100000},      {0x20000, 0x11000}, {0x20000, 0x10800}, {0x1f000, 0x21000},
        {0x20800, 0x20800}, {0, UINT64_MAX - 1}, {0, UINT64_MAX},   {0x50000, UINT64_MAX - 0x50000},
    };

    for (size_t i = 0; i != COUNT(cases); i++) {
        section("five areas, then [%#llx, +%#llx)", (unsigned long long)cases[i].iova,
                (unsigned long long)cases[i].length);
        five_areas(ioas);
        unmap(ioas, cases[i].iova, cases[i].length);
        print_areas(ioas);
        unmap(ioas, cases[i].iova, cases[i].length);
    }
}

static void test_large_lengths(uint32_t ioas)
{
    section("lengths beyond 32 and 63 bits");
    unmap(ioas, 0, UINT64_MAX);
    map(ioas, 0, 1UL << 62, FIXED | R, 0);
    map(ioas, 0, 1UL << 62, FIXED | R, 1UL << 62);
    map(ioas, 0, 1UL << 62, FIXED | R, 2UL << 62);
    map(ioas, 0, (1UL << 62) - PAGE, FIXED | R, 3UL << 62);
    map(ioas, 0, PAGE, FIXED | R, UINT64_MAX - PAGE + 1);
    unmap(ioas, 0, UINT64_MAX);
    map(ioas, 0, UINT64_MAX - PAGE, FIXED | R, 0);
    unmap(ioas, 0, UINT64_MAX - PAGE);
    map(ioas, 0, UINT64_MAX - PAGE, FIXED | R, PAGE);
    map(ioas, 0, UINT64_MAX - PAGE, FIXED | R, PAGE + 1);
    unmap(ioas, 0, UINT64_MAX);
}

static void test_unwritable_answer(uint32_t ioas)
{
    struct iommu_ioas_unmap *cmd =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    section("an answer that cannot be stored");
    five_areas(ioas);
    *cmd = (struct iommu_ioas_unmap){
        .size = sizeof(*cmd), .ioas_id = ioas, .iova = 0x10000, .length = 0x11000};
    mprotect(cmd, PAGE, PROT_READ);
    run(&IOAS_UNMAP, cmd);
    print_areas(ioas);
    run(&IOAS_UNMAP, cmd);
    mprotect(cmd, PAGE, PROT_READ | PROT_WRITE);
    cmd->iova = 0;
    cmd->length = UINT64_MAX;
    mprotect(cmd, PAGE, PROT_READ);
    run(&IOAS_UNMAP, cmd);
    print_areas(ioas);
    run(&IOAS_UNMAP, cmd);
    munmap(cmd, PAGE);
}

static void test_page_alignment(uint32_t ioas)
{
    section("large pages off: areas still cannot be cut by this command");
    unmap(ioas, 0, UINT64_MAX);
    option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, ioas, 0);
    map(ioas, va, 4 * PAGE, FIXED | R, 0x10000);
    unmap(ioas, 0x10000, PAGE);
    unmap(ioas, 0x13000, PAGE);
    unmap(ioas, 0x10001, 1);
    unmap(ioas, 0xfff0, 0x4020);
}

int main(void)
{
    uint32_t ioas;

    begin("unmap");
    make_buffer(16);
    va = (uintptr_t)buffer;
    ioas = ioas_alloc();
    test_arguments(ioas);
    test_ranges(ioas);
    test_large_lengths(ioas);
    test_unwritable_answer(ioas);
    test_page_alignment(ioas);
    destroy(ioas);
    unmap(ioas, 0, UINT64_MAX);
    return 0;
}

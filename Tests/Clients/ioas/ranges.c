/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IOAS_IOVA_RANGES returns the ranges that can be mapped. When the array is too short, the command
 * fails with EMSGSIZE, returns the number of ranges and fills the array.
 */
#include "transcript/ioas.h"

static struct iommu_iova_range *array; /* one page before a hole */

static void get_ranges(uint32_t ioas, void *at, uint32_t count)
{
    memset(array, 0xa5, 128);
    watch("head", array, 128);
    iova_ranges(ioas, at, count);
    unwatch("head");
}

static void test_array_lengths(uint32_t ioas)
{
    char *edge = (char *)array + PAGE;

    get_ranges(ioas, array, 0);
    get_ranges(ioas, array, 1);
    get_ranges(ioas, array, 2);
    get_ranges(ioas, array, 0xffffffff);
    get_ranges(ioas, (char *)array + 3, 1);
    section("arrays that are not there, with and without room");
    get_ranges(ioas, NULL, 0);
    get_ranges(ioas, NULL, 1);
    get_ranges(ioas, edge, 0);
    get_ranges(ioas, edge, 1);
    get_ranges(ioas, edge - 16, 1);
    get_ranges(ioas, edge - 16, 2);
    get_ranges(ioas, (void *)0xffff888000000000, 0);
    get_ranges(ioas, (void *)0xffff888000000000, 1);
    get_ranges(ioas, (void *)UINT64_MAX, 1);
}

static void test_cut_arrays(uint32_t ioas)
{
    unsigned char *edge = (unsigned char *)array + PAGE;

    section("an array of which some bytes are missing");
    for (unsigned there = 1; there <= 16; there++) {
        memset(edge - 32, 0xa5, 32);
        watch("tail", edge - 32, 32);
        iova_ranges(ioas, edge - there, 1);
        unwatch("tail");
    }
}

static void test_arguments(uint32_t ioas)
{
    struct iommu_ioas_iova_ranges cmd = {
        .size = sizeof(cmd), .ioas_id = ioas, .__reserved = 1, .num_iovas = 3};

    section("arguments");
    run(&IOAS_IOVA_RANGES, &cmd);
    cmd.ioas_id = 99;
    run(&IOAS_IOVA_RANGES, &cmd);
    get_ranges(0, array, 1);
    get_ranges(ioas + 1, array, 1);
    get_ranges(99, NULL, 1);
}

/** The command fills the array before it fails to write the struct. */
static void test_unwritable_answer(uint32_t ioas)
{
    struct iommu_ioas_iova_ranges *cmd =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    section("an answer that cannot be stored");
    *cmd = (struct iommu_ioas_iova_ranges){
        .size = sizeof(*cmd), .ioas_id = ioas, .allowed_iovas = (uintptr_t)array, .num_iovas = 1};
    mprotect(cmd, PAGE, PROT_READ);
    memset(array, 0xa5, 128);
    watch("head", array, 128);
    run(&IOAS_IOVA_RANGES, cmd);
    unwatch("head");
    munmap(cmd, PAGE);
}

/** The array overlaps the struct. The struct is written last. */
static void test_overlapping(uint32_t ioas)
{
    static struct iommu_ioas_iova_ranges cmd = {.size = sizeof(cmd), .num_iovas = 1};

    cmd.ioas_id = ioas;
    section("the array lies over the struct");
    name_region("cmd", &cmd, sizeof(cmd));
    cmd.allowed_iovas = (uintptr_t)&cmd;
    run(&IOAS_IOVA_RANGES, &cmd);
}

int main(void)
{
    uint32_t ioas;

    begin("ranges");
    array = map_region_at("array", 0x200000000000, 2 * PAGE, PROT_READ | PROT_WRITE);
    mprotect((char *)array + PAGE, PAGE, PROT_NONE);
    ioas = ioas_alloc();
    test_array_lengths(ioas);
    test_cut_arrays(ioas);
    test_arguments(ioas);
    test_unwritable_answer(ioas);
    test_overlapping(ioas);
    section("mapped and allowed ranges do not show; the alignment does");
    map(ioas, 0, PAGE, FIXED | R, 0x10000);
    allow_iova_list(ioas, (struct iommu_iova_range[]){{0x1000, 0x1fff}}, 1);
    get_ranges(ioas, array, 2);
    option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, ioas, 0);
    get_ranges(ioas, array, 2);
    get_ranges(ioas, array, 0);
    option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, ioas, 1);
    get_ranges(ioas, array, 2);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IOAS_IOVA_RANGES: the ranges that can be mapped. The count is answered even when the array is too
 * short; then the result is EMSGSIZE and the array holds what fits.
 */
#include "transcript/ioas.h"

static struct iommu_iova_range *array; /* one page, then a hole */

static void ask(uint32_t ioas, void *at, uint32_t count)
{
    memset(array, 0xa5, 128);
    watch("head", array, 128);
    iova_ranges(ioas, at, count);
    unwatch("head");
}

static void plain(uint32_t ioas)
{
    char *edge = (char *)array + PAGE;

    ask(ioas, array, 0);
    ask(ioas, array, 1);
    ask(ioas, array, 2);
    ask(ioas, array, 0xffffffff);
    ask(ioas, (char *)array + 3, 1);
    section("arrays that are not there, with and without room");
    ask(ioas, NULL, 0);
    ask(ioas, NULL, 1);
    ask(ioas, edge, 0);
    ask(ioas, edge, 1);
    ask(ioas, edge - 16, 1);
    ask(ioas, edge - 16, 2);
    ask(ioas, (void *)0xffff888000000000, 0);
    ask(ioas, (void *)0xffff888000000000, 1);
    ask(ioas, (void *)UINT64_MAX, 1);
}

static void partial_answers(uint32_t ioas)
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

static void arguments(uint32_t ioas)
{
    struct iommu_ioas_iova_ranges cmd = {
        .size = sizeof(cmd), .ioas_id = ioas, .__reserved = 1, .num_iovas = 3};

    section("arguments");
    run(&IOAS_IOVA_RANGES, &cmd);
    cmd.ioas_id = 99;
    run(&IOAS_IOVA_RANGES, &cmd);
    ask(0, array, 1);
    ask(ioas + 1, array, 1);
    ask(99, NULL, 1);
}

/** The array is filled first; then the struct cannot be written. */
static void answer_lost(uint32_t ioas)
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

/** The array lies over the struct: the struct is written last. */
static void overlapping(uint32_t ioas)
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
    array = region_at("array", 0x200000000000, 2 * PAGE, PROT_READ | PROT_WRITE);
    mprotect((char *)array + PAGE, PAGE, PROT_NONE);
    ioas = ioas_alloc();
    plain(ioas);
    partial_answers(ioas);
    arguments(ioas);
    answer_lost(ioas);
    overlapping(ioas);
    section("mapped and allowed ranges do not show; the alignment does");
    map(ioas, 0, PAGE, FIXED | R, 0x10000);
    allow_list(ioas, (struct iommu_iova_range[]){{0x1000, 0x1fff}}, 1);
    ask(ioas, array, 2);
    option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, ioas, 0);
    ask(ioas, array, 2);
    ask(ioas, array, 0);
    option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, ioas, 1);
    ask(ioas, array, 2);
    return 0;
}

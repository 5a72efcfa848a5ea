/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IOAS_ALLOW_IOVAS sets the ranges for automatic IOVA allocation. Fixed mappings may be outside of
 * them. The ranges must not overlap, and each call replaces all of them.
 */
#include "transcript/ioas.h"

typedef struct iommu_iova_range range;

static void test_arguments(uint32_t ioas)
{
    range *list = map_region_at("array", 0x220000000000, 2 * PAGE, PROT_READ | PROT_WRITE);
    range *last = list + PAGE / sizeof(range) - 1;
    struct iommu_ioas_allow_iovas cmd = {.size = sizeof(cmd),
                                         .ioas_id = ioas,
                                         .num_iovas = 1,
                                         .__reserved = 1,
                                         .allowed_iovas = (uintptr_t)list};

    section("arguments");
    mprotect((char *)list + PAGE, PAGE, PROT_NONE);
    run(&IOAS_ALLOW_IOVAS, &cmd);
    cmd.ioas_id = 99;
    run(&IOAS_ALLOW_IOVAS, &cmd);
    list[0] = (range){0x1000, 0x1fff};
    allow_iovas(0, list, 1);
    allow_iovas(ioas + 1, list, 1);
    allow_iovas(99, NULL, 1);
    allow_iovas(ioas, NULL, 0);
    allow_iovas(ioas, NULL, 1);
    allow_iovas(ioas, (range *)0xffff888000000000, 1);
    allow_iovas(ioas, (range *)0xffff888000000000, 0);
    allow_iovas(ioas, list, 1);

    section("an array that ends at a hole");
    for (range *at = list; at <= last; at++)
        *at = (range){(uint64_t)(at - list) << 16, ((uint64_t)(at - list) << 16) + 0xfff};
    allow_iovas(ioas, last, 1);
    allow_iovas(ioas, last, 2);
    allow_iovas(ioas, list, PAGE / sizeof(range));
    allow_iovas(ioas, list, PAGE / sizeof(range) + 1);
    allow_iovas(ioas, (range *)((char *)last + 1), 1);
    allow_iovas(ioas, (range *)((char *)last + 8), 1);
    allow_iovas(ioas, last, 0xffffffff);
    last->last = last->start;
    allow_iovas(ioas, last, 2);
    section("it can be unaligned and read-only");
    memmove((char *)list + 3, list, sizeof(range) * 4);
    mprotect(list, PAGE, PROT_READ);
    allow_iovas(ioas, (range *)((char *)list + 3), 4);
}

static void test_bad_lists(uint32_t ioas)
{
    static const struct {
        uint32_t count;
        range list[4];
    } cases[] = {
        {1, {{0, 0}}},
        {1, {{0, 1}}},
        {1, {{1, 0}}},
        {1, {{0x1000, 0x1000}}},
        {1, {{0x1000, 0x1001}}},
        {1, {{UINT64_MAX, UINT64_MAX}}},
        {1, {{UINT64_MAX - 1, UINT64_MAX}}},
        {1, {{0, UINT64_MAX}}},
        {2, {{0, 0xfff}, {0x1000, 0x1fff}}},
        {2, {{0x1000, 0x1fff}, {0, 0xfff}}},
        {2, {{0, 0x1000}, {0x1000, 0x1fff}}},
        {2, {{0x1000, 0x1fff}, {0, 0x1000}}},
        {2, {{0x1000, 0x1fff}, {0x1000, 0x1fff}}},
        {2, {{0x1000, 0x4fff}, {0x2000, 0x2fff}}},
        {2, {{0x2000, 0x2fff}, {0x1000, 0x4fff}}},
        {3, {{0, 0xfff}, {0x2000, 0x2fff}, {0x5000, 0x4fff}}},
        {3, {{0, 0xfff}, {0x2000, 0x2fff}, {0x5000, 0x5fff}}},
        {2, {{0, UINT64_MAX}, {1, 2}}},
    };

    section("lists");
    for (size_t i = 0; i != COUNT(cases); i++) {
        allow_iova_list(ioas, cases[i].list, cases[i].count);
        map(ioas, 0, PAGE, R, 0);
        unmap(ioas, 0, UINT64_MAX);
    }
}

static void test_placement(uint32_t ioas)
{
    static const range two[] = {{0x10000, 0x12fff}, {0x20000, 0x20fff}};

    section("placement within two ranges of 3 and 1 pages");
    allow_iova_list(ioas, two, 2);
    for (unsigned i = 0; i != 6; i++)
        map(ioas, PAGE, PAGE, R, 0);
    unmap(ioas, 0, UINT64_MAX);
    map(ioas, PAGE, 3 * PAGE, R, 0);
    map(ioas, PAGE, 3 * PAGE, R, 0);
    map(ioas, PAGE, 2 * PAGE, R, 0);
    unmap(ioas, 0, UINT64_MAX);
    map(ioas, 0, 2 * PAGE, R, 0);
    map(ioas, 0, 2 * PAGE, R, 0);
    map(ioas, PAGE, 4 * PAGE, R, 0);
    map(ioas, PAGE + 1, PAGE, R, 0);
    map(ioas, PAGE + 0x800, 0x800, R, 0);
    section("fixed mappings go anywhere");
    map(ioas, 0, PAGE, FIXED | R, 0x40000);
    map(ioas, 0, 0x8000, FIXED | R, 0x1c000);
    map(ioas, PAGE, PAGE, R, 0);
    unmap(ioas, 0, UINT64_MAX);
    section("an empty list allows everything again");
    allow_iovas(ioas, NULL, 0);
    map(ioas, PAGE, PAGE, R, 0);
    unmap(ioas, 0, UINT64_MAX);
}

/** Alignment within a range, and ranges at the ends of the address space. */
static void test_alignment(uint32_t ioas)
{
    static const range lists[][2] = {
        {{0x1234, 0x5fff}, {0x100000, 0x3fffff}},
        {{0, 0x1fff}, {0x2000, 0x2fff}},
        {{1, 0xffe}, {0x1001, 0x1fff}},
        {{UINT64_MAX - 0x1fff, UINT64_MAX}, {0x10, 0x20}},
        {{UINT64_MAX - 0x3fff, UINT64_MAX - 1}, {0x7000, 0x8fff}},
        {{0x200000, 0x3fffff}, {0x600000, 0x9fffff}},
        {{0x200001, 0x400000}, {0x5ff000, 0x7ffffe}},
        {{0xffffff800, 0x1000000fff}, {0x1000001000, 0x1000001fff}},
    };

    section("alignment within ranges");
    for (size_t i = 0; i != COUNT(lists); i++) {
        allow_iova_list(ioas, lists[i], 2);
        map(ioas, 0x200000, 0x200000, R, 0);
        map(ioas, 0x200000, 0x1ff000, R, 0);
        map(ioas, 0x1000, 0x1000, R, 0);
        map(ioas, 0x1000, 0x2000, R, 0);
        map(ioas, 0, 0x2000, R, 0);
        map(ioas, 0, 1, R, 0);
        map(ioas, 1, 1, R, 0);
        map(ioas, 0x801, 0x10, R, 0);
        map(ioas, 0xfff, 1, R, 0);
        map(ioas, 0xff0, 0x10, R, 0);
        unmap(ioas, 0, UINT64_MAX);
    }
}

/**
 * Mappings that end at the last byte of a range. The kernel refuses some of them although they fit.
 */
static void test_exact_fit(uint32_t ioas)
{
    static const range one[] = {{0x10000, 0x10fff}};

    section("a range of exactly one page");
    allow_iova_list(ioas, one, 1);
    for (unsigned length = 0xffd; length <= 0x1001; length++) {
        map(ioas, 0x10000, length, R, 0);
        unmap(ioas, 0, UINT64_MAX);
    }
    map(ioas, 0xffe, 1, R, 0);
    map(ioas, 0xffe, 2, R, 0);
    map(ioas, 0xfff, 1, R, 0);
    unmap(ioas, 0, UINT64_MAX);
}

/** A list that is refused does not replace the list before. */
static void test_refused_list(uint32_t ioas)
{
    static const range good[] = {{0x10000, 0x1ffff}};
    static const range bad[] = {{0x50000, 0x5ffff}, {0x5ffff, 0x60000}};

    section("a refused list changes nothing");
    allow_iova_list(ioas, good, 1);
    allow_iova_list(ioas, bad, 2);
    map(ioas, PAGE, PAGE, R, 0);
    print_iova_ranges(ioas);
}

int main(void)
{
    uint32_t ioas;

    begin("allow");
    ioas = ioas_alloc();
    test_arguments(ioas);
    test_bad_lists(ioas);
    allow_iovas(ioas, NULL, 0);
    test_placement(ioas);
    test_alignment(ioas);
    test_exact_fit(ioas);
    test_refused_list(ioas);
    destroy(ioas);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IOAS_MAP without FIXED_IOVA. The kernel aligns the IOVA to the common alignment of the user
 * address and the length, at most to a huge page, keeps the offset within the page, and uses the
 * first hole above page 0 that fits.
 */
#include "transcript/ioas.h"

enum { HUGE_ORDER = 21 };

static void test_by_address_alignment(void)
{
    uint32_t ioas = ioas_alloc();

    section("one length, user addresses of every alignment");
    for (unsigned order = 0; order != 48; order++)
        map(ioas, 0x400000000000 | 1UL << order, 0x40000000, R | W, 0);
    map(ioas, 0, 0x1000, R | W, 0);
    map(ioas, 0, 0x40000000, R | W, 0);
    section("the same, one page each, into the gaps");
    for (unsigned order = 0; order != 48; order++)
        map(ioas, 0x400000000000 | 1UL << order, PAGE, R | W, 0);
    destroy(ioas);
}

static void test_by_length(void)
{
    uint32_t ioas = ioas_alloc();

    section("user address 0, lengths around each power of two");
    for (unsigned order = 0; order != 40; order++) {
        map(ioas, 0, 1UL << order, R | W, 0);
        map(ioas, 0, (1UL << order) + 1, R | W, 0);
        if (order > 1)
            map(ioas, 0, (1UL << order) - 1, R | W, 0);
    }
    section("a huge page's address, the same lengths");
    for (unsigned order = 0; order != 40; order++) {
        map(ioas, 1UL << HUGE_ORDER, 1UL << order, R | W, 0);
        map(ioas, 1UL << HUGE_ORDER, (1UL << order) + 1, R | W, 0);
    }
    destroy(ioas);
}

static void test_offsets_in_a_page(void)
{
    static const unsigned offsets[] = {1, 2, 3, 0x10, 0x123, 0x800, 0x801, 0xffe, 0xfff};
    uint32_t ioas = ioas_alloc();

    section("offsets within the page");
    for (size_t i = 0; i != COUNT(offsets); i++)
        for (unsigned length = 1; length <= 0x3000; length = length * 4 + 1)
            map(ioas, 0x500000000000 + offsets[i], length, R | W, 0);
    destroy(ioas);
}

static void test_first_fit(void)
{
    uint32_t ioas = ioas_alloc();

    section("gaps of 1 to 8 pages, filled by what fits");
    for (unsigned i = 1, at = 0; i != 9; i++) {
        map(ioas, 0, PAGE, FIXED | R, at);
        at += PAGE * (i + 1);
    }
    for (unsigned i = 8; i != 0; i--)
        map(ioas, PAGE * 3, PAGE * i, R, 0);
    for (unsigned i = 1; i != 9; i++)
        map(ioas, PAGE, PAGE * i, R, 0);
    unmap(ioas, 0, PAGE);
    map(ioas, PAGE, PAGE, R, 0);
    map(ioas, PAGE, 1, R, 0);
    destroy(ioas);
}

/** Gaps between areas that do not begin or end at a page boundary. */
static void test_gaps_of_bytes(void)
{
    uint32_t ioas = ioas_alloc();

    section("gaps of a few bytes");
    map(ioas, 0, 0x1010, FIXED | R, 0);
    map(ioas, 0, 0x10, FIXED | R, 0x1020);
    map(ioas, 0, 0x10, FIXED | R, 0x1050);
    map(ioas, 0x10, 0x10, R, 0);
    map(ioas, 0x10, 0x10, R, 0);
    map(ioas, 0x30, 0x10, R, 0);
    map(ioas, 0x30, 0x11, R, 0);
    map(ioas, 0x1, 0x1, R, 0);
    map(ioas, 0x1030, 0x8, R, 0);
    map(ioas, 0x2030, 0x8, R, 0);
    destroy(ioas);
}

static void test_long_lengths(void)
{
    static const uint64_t lengths[] = {
        1UL << 61, 1UL << 62, (1UL << 62) + 1, (1UL << 63) - 2, (1UL << 63) - 1, 1UL << 63,
        UINT64_MAX - 2 * PAGE, UINT64_MAX - 1,
    };
    uint32_t ioas = ioas_alloc();

    section("lengths of which there are few");
    for (size_t i = 0; i != COUNT(lengths); i++) {
        map(ioas, 0, lengths[i], R, 0);
        map(ioas, PAGE, lengths[i], R, 0);
    }
    map(ioas, 0, 0, R, 0);
    section("until nothing is left");
    for (unsigned i = 0; i != 12; i++)
        map(ioas, PAGE, 1UL << 61, R, 0);
    unmap(ioas, 0, UINT64_MAX);
    map(ioas, 0, (1UL << 63) - 2, R, 0);
    map(ioas, 0, (1UL << 63) - 2, R, 0);
    map(ioas, PAGE, (1UL << 63) - 2, R, 0);
    unmap(ioas, 0, UINT64_MAX);
    destroy(ioas);
}

static void test_last_pages(void)
{
    uint32_t ioas = ioas_alloc();

    section("the last pages are not given");
    map(ioas, 0, UINT64_MAX - 4 * PAGE, FIXED | R, 0);
    map(ioas, PAGE, PAGE, R, 0);
    map(ioas, PAGE, PAGE, R, 0);
    map(ioas, PAGE, PAGE, R, 0);
    map(ioas, PAGE, PAGE, R, 0);
    map(ioas, 1, 1, R, 0);
    map(ioas, 0x801, 1, R, 0);
    destroy(ioas);
}

/**
 * With huge pages disabled the alignment is a page. An argument that is less aligned is refused.
 */
static void test_page_alignment(void)
{
    uint32_t ioas = ioas_alloc();

    section("alignment 0x1000");
    option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, ioas, 0);
    map(ioas, PAGE, PAGE, R, 0);
    map(ioas, 0x800, PAGE, R, 0);
    map(ioas, PAGE, 0x800, R, 0);
    map(ioas, 0x1800, 0x800, R, 0);
    map(ioas, 0, PAGE, R, 0);
    map(ioas, 3 * PAGE, 5 * PAGE, R, 0);
    map(ioas, 0, 5 * PAGE, R, 0);
    map(ioas, PAGE + 1, PAGE, FIXED | R, 0x100000);
    map(ioas, PAGE, PAGE, FIXED | R, 0x100001);
    map(ioas, PAGE, PAGE + 1, FIXED | R, 0x100000);
    map(ioas, PAGE, PAGE, FIXED | R, 0x100000);
    destroy(ioas);
}

int main(void)
{
    begin("automatic placement");
    test_by_address_alignment();
    test_by_length();
    test_offsets_in_a_page();
    test_first_fit();
    test_gaps_of_bytes();
    test_long_lengths();
    test_last_pages();
    test_page_alignment();
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IOAS_COPY maps the pages of another range and shares them. The source must be mapped without a
 * gap. The copy has as many areas as the source range touches, and at most their permissions.
 */
#include "transcript/ioas.h"

static uintptr_t va;

static void test_arguments(uint32_t to, uint32_t from)
{
    section("flags");
    for (uint32_t flags = 0; flags != 16; flags++)
        copy(to, from, 0x10000, PAGE, flags, 0x200000 + flags * 0x10000);
    copy(to, from, 0x10000, PAGE, FIXED | R | 0x80000000, 0x1000);
    unmap(to, 0, UINT64_MAX);

    section("ids");
    copy(to, 99, 0x10000, PAGE, R, 0);
    copy(99, from, 0x10000, PAGE, R, 0);
    copy(99, 98, 0x10000, PAGE, R, 0);
    copy(99, from, 0x18000, PAGE, R, 0);
    copy(0, 0, 0x10000, PAGE, R, 0);

    section("lengths and addresses");
    copy(to, from, 0x10000, 0, R, 0);
    copy(to, from, 0x10000, UINT64_MAX, R, 0);
    copy(to, from, 0x10000, UINT64_MAX - 1, R, 0);
    copy(to, from, 0x10000, UINT64_MAX - 0x10000 + 1, R, 0);
    copy(to, from, 0x10000, UINT64_MAX - 0x10000 + 2, R, 0);
    copy(to, from, UINT64_MAX, 1, R, 0);
    copy(to, from, UINT64_MAX - 1, 1, R, 0);
    copy(to, from, UINT64_MAX - 1, 2, R, 0);
    copy(to, from, UINT64_MAX - 1, 3, R, 0);
    copy(to, from, 0x10000, PAGE, FIXED | R, UINT64_MAX);
    copy(to, from, 0x10000, PAGE, R, UINT64_MAX);
    copy(to, from, 0x10000, PAGE, FIXED | R, UINT64_MAX - 1);
    copy(to, from, 0x10000, 2, FIXED | R, UINT64_MAX - 1);
    copy(to, from, 0x10000, 0, 0, 0);
    unmap(to, 0, UINT64_MAX);
}

static void test_gaps(uint32_t to, uint32_t from)
{
    section("the source: [0x10000, 0x14000), [0x14000, 0x16000), [0x17000, 0x18000)");
    copy(to, from, 0x10000, 0x4000, R, 0);
    copy(to, from, 0x10000, 0x6000, R, 0);
    copy(to, from, 0x11000, 0x4000, R, 0);
    copy(to, from, 0x13fff, 2, R, 0);
    copy(to, from, 0x10000, 0x6001, R, 0);
    copy(to, from, 0x10000, 0x7000, R, 0);
    copy(to, from, 0x15fff, 1, R, 0);
    copy(to, from, 0x16000, 1, R, 0);
    copy(to, from, 0x17000, 0x1000, R, 0);
    copy(to, from, 0x17000, 0x1001, R, 0);
    copy(to, from, 0xffff, 1, R, 0);
    copy(to, from, 0xffff, 2, R, 0);

    section("the copy of two areas is two areas");
    unmap(to, 0, UINT64_MAX);
    copy(to, from, 0x11000, 0x4000, FIXED | R, 0x100000);
    unmap(to, 0x100000, 0x1000);
    unmap(to, 0x100000, 0x3000);
    unmap(to, 0x103000, 0x1000);
}

static void test_targets(uint32_t to, uint32_t from)
{
    section("where to");
    unmap(to, 0, UINT64_MAX);
    copy(to, from, 0x10000, PAGE, FIXED | R, 0x10000);
    copy(to, from, 0x10000, PAGE, FIXED | R, 0x10000);
    copy(to, from, 0x10000, PAGE, FIXED | R, 0x10fff);
    copy(to, from, 0x10000, PAGE, FIXED | R, 0x11000);
    copy(from, from, 0x10000, PAGE, FIXED | R, 0x10000);
    copy(from, from, 0x10000, PAGE, FIXED | R, 0x20000);
    copy(from, from, 0x20000, PAGE, R, 0);
    copy(from, from, 0x10000, 0x6000, R, 0);
    unmap(from, 0x20000, PAGE);

    section("placement follows the user address of the first byte");
    unmap(to, 0, UINT64_MAX);
    for (uint64_t at = 0x10000; at != 0x16000; at += 0x1000)
        copy(to, from, at, 0x1000, R, 0);
    for (uint64_t at = 1; at < 0x2000; at = at * 2 + 1)
        copy(to, from, 0x10000 + at, 0x800, R, 0);
}

static void test_permissions(uint32_t to, uint32_t from)
{
    section("permissions");
    unmap(to, 0, UINT64_MAX);
    map(from, va, PAGE, FIXED | R, 0x80000);
    map(from, va, PAGE, FIXED | W, 0x81000);
    map(from, va, PAGE, FIXED | R | W, 0x82000);
    for (uint64_t at = 0x80000; at != 0x83000; at += 0x1000) {
        copy(to, from, at, PAGE, R, 0);
        copy(to, from, at, PAGE, W, 0);
        copy(to, from, at, PAGE, R | W, 0);
    }
    section("the second of two areas may not be written: the first is not copied either");
    map(from, va, PAGE, FIXED | R | W, 0x90000);
    map(from, va, PAGE, FIXED | R, 0x91000);
    copy(to, from, 0x90000, 2 * PAGE, FIXED | R | W, 0x900000);
    map(to, va, 2 * PAGE, FIXED | R, 0x900000);
    unmap(to, 0x900000, 2 * PAGE);
    copy(to, from, 0x90000, 2 * PAGE, FIXED | R, 0x900000);
    section("permissions of a copy of a read-only copy");
    copy(to, from, 0x90000, PAGE, FIXED | R, 0xa00000);
    copy(to, to, 0xa00000, PAGE, FIXED | R | W, 0xa10000);
}

/** The copy keeps the pages when the source is unmapped. */
static void test_destroyed_source(uint32_t to, uint32_t from)
{
    section("the source goes away");
    unmap(to, 0, UINT64_MAX);
    copy(to, from, 0x10000, PAGE, FIXED | R | W, 0x10000);
    unmap(from, 0, UINT64_MAX);
    copy(from, to, 0x10000, PAGE, FIXED | R | W, 0x50000);
    destroy(to);
    copy(from, from, 0x50000, PAGE, R | W, 0);
    copy(from, to, 0x10000, PAGE, R, 0);
}

static void test_page_alignment(void)
{
    uint32_t from = ioas_alloc();
    uint32_t to = ioas_alloc();

    section("the target's alignment is 0x1000");
    option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, to, 0);
    map(from, va, 4 * PAGE, FIXED | R, 0x10000);
    map(from, va + 0x800, PAGE, FIXED | R, 0x20000);
    copy(to, from, 0x10000, PAGE, FIXED | R, 0x10000);
    copy(to, from, 0x10800, PAGE, FIXED | R, 0x20000);
    copy(to, from, 0x10000, 0x800, FIXED | R, 0x20000);
    copy(to, from, 0x10000, PAGE, FIXED | R, 0x20800);
    copy(to, from, 0x10800, PAGE, R, 0);
    copy(to, from, 0x20000, PAGE, FIXED | R, 0x30000);
    copy(to, from, 0x20000, PAGE, R, 0);
    copy(to, from, 0x20800, 0x800, R, 0);
    section("the second of two areas is badly aligned");
    map(from, va + 0x800, PAGE, FIXED | R, 0x14000);
    copy(to, from, 0x13000, 2 * PAGE, FIXED | R, 0x70000);
    map(to, va, 2 * PAGE, FIXED | R, 0x70000);
    destroy(from);
    destroy(to);
}

static void test_unwritable_answer(uint32_t from)
{
    struct iommu_ioas_copy *cmd =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t to = ioas_alloc();

    section("an answer that cannot be stored");
    map(from, va, PAGE, FIXED | R, 0x10000);
    *cmd = (struct iommu_ioas_copy){.size = sizeof(*cmd),
                                    .flags = FIXED | R,
                                    .dst_ioas_id = to,
                                    .src_ioas_id = from,
                                    .length = PAGE,
                                    .dst_iova = 0x30000,
                                    .src_iova = 0x10000};
    mprotect(cmd, PAGE, PROT_READ);
    run(&IOAS_COPY, cmd);
    run(&IOAS_COPY, cmd);
    munmap(cmd, PAGE);
    unmap(to, 0x30000, PAGE);
    destroy(to);
}

int main(void)
{
    uint32_t from, to;

    begin("copy");
    make_buffer(16);
    va = (uintptr_t)buffer;
    from = ioas_alloc();
    to = ioas_alloc();
    map(from, va, 4 * PAGE, FIXED | R | W, 0x10000);
    map(from, va + 8 * PAGE, 2 * PAGE, FIXED | R | W, 0x14000);
    map(from, va + 1, PAGE, FIXED | R | W, 0x17000);
    test_arguments(to, from);
    test_gaps(to, from);
    test_targets(to, from);
    test_permissions(to, from);
    test_destroyed_source(to, from);
    test_page_alignment();
    test_unwritable_answer(from);
    return 0;
}

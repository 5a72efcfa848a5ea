/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IOAS_MAP at a fixed IOVA: flags, bounds, collisions. Without a device no page is pinned, so every
 * user address is accepted and only 64-bit arithmetic limits the length.
 */
#include "transcript/ioas.h"

static void test_arguments(uint32_t ioas)
{
    uintptr_t va = (uintptr_t)buffer;

    section("flags");
    for (uint32_t flags = 0; flags != 16; flags++)
        map(ioas, va, PAGE, flags, 0x100000000 + flags * 0x10000);
    map(ioas, va, PAGE, FIXED | R | 0x80000000, 0x1000);
    map(ioas, va, PAGE, FIXED | R | 1 << 16, 0x1000);

    section("reserved, ids");
    struct iommu_ioas_map cmd = {.size = sizeof(cmd),
                                 .flags = FIXED | R,
                                 .ioas_id = ioas,
                                 .__reserved = 1,
                                 .user_va = va,
                                 .length = PAGE,
                                 .iova = 0x5000000};
    run(&IOAS_MAP, &cmd);
    map(0, va, PAGE, FIXED | R, 0x5000000);
    map(ioas + 1, va, PAGE, FIXED | R, 0x5000000);
    map(0xffffffff, va, PAGE, FIXED | R, 0x5000000);

    section("which error comes first");
    cmd.ioas_id = 99;
    run(&IOAS_MAP, &cmd);
    map(99, va, UINT64_MAX, 0, 0);
    map(99, va, PAGE, 0, 0);
    map(99, va, 0, FIXED | R, 0);
    map(ioas, va, UINT64_MAX, 0x80000000, 0);
    map(ioas, UINT64_MAX, 2, FIXED | R, 0x100000001);
}

static void test_lengths(uint32_t ioas)
{
    static const uint64_t values[] = {
        0,       1,      2,          3,
        0xfff,   0x1001, 0x100000,   0x7ffffffff000,
        1UL << 62, 1UL << 63, UINT64_MAX - 2 * PAGE, UINT64_MAX - PAGE,
        UINT64_MAX - PAGE + 1, UINT64_MAX - 1, UINT64_MAX,
    };

    section("lengths, at user address 0");
    for (size_t i = 0; i != COUNT(values); i++) {
        if (map(ioas, 0, values[i], FIXED | R | W, 0) != UINT64_MAX)
            unmap(ioas, 0, values[i]);
    }
    section("lengths, at the buffer");
    for (size_t i = 0; i != COUNT(values); i++) {
        if (map(ioas, (uintptr_t)buffer + 1, values[i], FIXED | R | W, 0x12345) != UINT64_MAX)
            unmap(ioas, 0x12345, values[i]);
    }
}

static void test_iovas(uint32_t ioas)
{
    static const uint64_t values[] = {
        0, 1, 0xfff, 0x1000, 0x7fffffff, UINT64_MAX - 2 * PAGE, UINT64_MAX - PAGE,
        UINT64_MAX - PAGE + 1, UINT64_MAX - 2, UINT64_MAX - 1, UINT64_MAX,
    };

    section("IOVAs of one page, of two bytes and of one");
    for (size_t i = 0; i != COUNT(values); i++) {
        if (map(ioas, (uintptr_t)buffer, PAGE, FIXED | R, values[i]) != UINT64_MAX)
            unmap(ioas, values[i], PAGE);
        if (map(ioas, (uintptr_t)buffer, 2, FIXED | R, values[i]) != UINT64_MAX)
            unmap(ioas, values[i], 2);
        if (map(ioas, (uintptr_t)buffer, 1, FIXED | R, values[i]) != UINT64_MAX)
            unmap(ioas, values[i], 1);
    }
}

static void test_user_addresses(uint32_t ioas)
{
    static const uint64_t values[] = {
        0, 1, 0xfff, 0x7ffffffff000, 0x800000000000, 0xffff888000000000, UINT64_MAX - PAGE,
        UINT64_MAX - PAGE + 1, UINT64_MAX - 1, UINT64_MAX,
    };

    section("user addresses");
    for (size_t i = 0; i != COUNT(values); i++) {
        uint64_t iova = 0x70000000 + i * 0x10000;

        map(ioas, values[i], PAGE, FIXED | R, iova);
        map(ioas, values[i], 1, FIXED | R, iova + 0x2000);
    }
}

static void test_collisions(uint32_t ioas)
{
    uintptr_t va = (uintptr_t)buffer;

    section("collisions with [0x10000, 0x12000)");
    map(ioas, va, 2 * PAGE, FIXED | R | W, 0x10000);
    map(ioas, va, 2 * PAGE, FIXED | R | W, 0x10000);
    map(ioas, va, PAGE, FIXED | R | W, 0x11000);
    map(ioas, va, 1, FIXED | R | W, 0x11fff);
    map(ioas, va, 1, FIXED | R | W, 0x12000);
    map(ioas, va, 1, FIXED | R | W, 0xffff);
    map(ioas, va, 2, FIXED | R | W, 0xfffe);
    map(ioas, va, 0x8000, FIXED | R | W, 0x8000);
    map(ioas, va, 0x7ffe, FIXED | R | W, 0x8000);
    map(ioas, va, 0x1000000, FIXED | R | W, 0);
    unmap(ioas, 0, UINT64_MAX);
}

/** Memory can be mapped any number of times, and need not be mapped in the process. */
static void test_same_memory(uint32_t ioas)
{
    void *gone = map_region_at("gone", 0x210000000000, PAGE, PROT_READ);

    section("the same memory again, memory that is not there");
    for (int i = 0; i != 3; i++)
        map(ioas, (uintptr_t)buffer, PAGE, FIXED | R | W, 0x1000 * (unsigned)i);
    munmap(gone, PAGE);
    map(ioas, (uintptr_t)gone, PAGE, FIXED | R | W, 0x20000);
    unmap(ioas, 0, UINT64_MAX);
}

/** When the struct cannot be written, the command fails with EFAULT but the mapping exists. */
static void test_unwritable_answer(uint32_t ioas)
{
    struct iommu_ioas_map *cmd =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    section("an answer that cannot be stored");
    *cmd = (struct iommu_ioas_map){.size = sizeof(*cmd),
                                   .flags = FIXED | R,
                                   .ioas_id = ioas,
                                   .user_va = (uintptr_t)buffer,
                                   .length = PAGE,
                                   .iova = 0x40000};
    mprotect(cmd, PAGE, PROT_READ);
    run(&IOAS_MAP, cmd);
    mprotect(cmd, PAGE, PROT_READ | PROT_WRITE);
    run(&IOAS_MAP, cmd);
    cmd->flags = R;
    mprotect(cmd, PAGE, PROT_READ);
    run(&IOAS_MAP, cmd);
    mprotect(cmd, PAGE, PROT_READ | PROT_WRITE);
    unmap(ioas, 0, UINT64_MAX);
    munmap(cmd, PAGE);
}

/** A struct that is longer than that of Linux 7.3, and an IOVA that is only an output. */
static void test_longer_struct(uint32_t ioas)
{
    struct {
        struct iommu_ioas_map cmd;
        unsigned char tail[16];
    } longer = {.cmd = {.size = sizeof(longer),
                        .flags = R,
                        .ioas_id = ioas,
                        .user_va = (uintptr_t)buffer,
                        .length = 3 * PAGE,
                        .iova = 0x123}};

    section("a longer struct; an IOVA that is no input");
    run(&IOAS_MAP, &longer.cmd);
    longer.cmd.iova = UINT64_MAX;
    run(&IOAS_MAP, &longer.cmd);
    longer.cmd.iova = UINT64_MAX - 1;
    run(&IOAS_MAP, &longer.cmd);
}

int main(void)
{
    uint32_t ioas;

    begin("map");
    make_buffer(16);
    ioas = ioas_alloc();
    test_arguments(ioas);
    unmap(ioas, 0, UINT64_MAX);
    test_lengths(ioas);
    test_iovas(ioas);
    test_user_addresses(ioas);
    unmap(ioas, 0, UINT64_MAX);
    test_collisions(ioas);
    test_same_memory(ioas);
    test_unwritable_answer(ioas);
    test_longer_struct(ioas);
    destroy(ioas);
    return 0;
}

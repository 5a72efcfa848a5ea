/* SPDX-License-Identifier: Apache-2.0 */
/* The VFIO type1 container commands on /dev/iommu, without and with a compatibility IOAS. */
#include "transcript/ioas.h"
#include "transcript/type1.h"

static const struct command GET_INFO = TYPE1_GET_INFO_AS("VFIO_IOMMU_GET_INFO");
static const struct command MAP_DMA = TYPE1_MAP_AS("VFIO_IOMMU_MAP_DMA");
static const struct command UNMAP_DMA = TYPE1_UNMAP_AS("VFIO_IOMMU_UNMAP_DMA");

static long map_dma(uint32_t flags, uint64_t vaddr, uint64_t iova, uint64_t size)
{
    struct vfio_iommu_type1_dma_map cmd = {
        .argsz = sizeof(cmd), .flags = flags, .vaddr = vaddr, .iova = iova, .size = size};

    return run(&MAP_DMA, &cmd);
}

static long unmap_dma(uint32_t flags, uint64_t iova, uint64_t size)
{
    struct vfio_iommu_type1_dma_unmap cmd = {
        .argsz = sizeof(cmd), .flags = flags, .iova = iova, .size = size};

    return run(&UNMAP_DMA, &cmd);
}

static void test_plain_arguments(void)
{
    static const unsigned long types[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 1000, ~0UL};

    run_raw(VFIO_GET_API_VERSION, 0, "GET_API_VERSION");
    run_raw(VFIO_GET_API_VERSION, ~0UL, "GET_API_VERSION with an argument");
    for (size_t i = 0; i != COUNT(types); i++)
        run_raw(VFIO_CHECK_EXTENSION, types[i], "CHECK_EXTENSION %ld", (long)types[i]);
    for (size_t i = 0; i != COUNT(types); i++)
        run_raw(VFIO_SET_IOMMU, types[i], "SET_IOMMU %ld", (long)types[i]);
}

static void test_other_requests(void)
{
    section("VFIO commands that are no part of this file");
    run_raw(VFIO_IOMMU_DIRTY_PAGES, 0, "IOMMU_DIRTY_PAGES");
    run_raw(VFIO_GROUP_GET_STATUS, 0, "GROUP_GET_STATUS");
    run_raw(VFIO_DEVICE_GET_INFO, 0, "DEVICE_GET_INFO");
    run_raw(VFIO_IOMMU_ENABLE, 0, "IOMMU_ENABLE");
    run_raw(VFIO_IOMMU_DISABLE, 0, "IOMMU_DISABLE");
    run_raw(_IOR(VFIO_TYPE, VFIO_BASE, int), 0, "GET_API_VERSION with a direction");
    run_raw(_IO(':', VFIO_BASE), 0, "GET_API_VERSION of type ':'");
}

static void test_get_info(void)
{
    static const uint32_t sizes[] = {0,  1,  15, 16, 17, 20, 23,  24,  25, 31,  32,
                                     40, 47, 48, 56, 64, 71, 72, 80, 88, 104, 4000};
    unsigned char *buffer = map_region_at("info", 0x210000000000, PAGE, PROT_READ | PROT_WRITE);

    section("GET_INFO");
    for (size_t i = 0; i != COUNT(sizes); i++) {
        memset(buffer, 0xa5, 256);
        memcpy(buffer, &sizes[i], 4);
        watch("info", buffer, 128);
        run_raw(VFIO_IOMMU_GET_INFO, (uintptr_t)buffer, "GET_INFO argsz=%u", sizes[i]);
        unwatch("info");
    }
    section("GET_INFO at the edge of a mapping");
    for (unsigned there = 1; there != 96; there++) {
        unsigned char *at = buffer + PAGE - there;

        memset(buffer + PAGE - 128, 0xa5, 128);
        memcpy(at, &(uint32_t){there + 20}, there < 4 ? there : 4);
        watch("info", buffer + PAGE - 128, 128);
        run_raw(VFIO_IOMMU_GET_INFO, (uintptr_t)at, "GET_INFO, %u bytes there", there);
        unwatch("info");
    }
    memcpy(buffer, &(uint32_t){64}, 4);
    mprotect(buffer, PAGE, PROT_READ);
    run_raw(VFIO_IOMMU_GET_INFO, (uintptr_t)buffer, "GET_INFO read-only");
    memcpy((mprotect(buffer, PAGE, PROT_READ | PROT_WRITE), buffer), &(uint32_t){0xffffffff}, 4);
    watch("info", buffer, 128);
    run_raw(VFIO_IOMMU_GET_INFO, (uintptr_t)buffer, "GET_INFO argsz=0xffffffff");
    unwatch("info");
    run_raw(VFIO_IOMMU_GET_INFO, 0, "GET_INFO NULL");
    run_raw(VFIO_IOMMU_GET_INFO, 0xffff888000000000, "GET_INFO in the kernel");
    munmap(buffer, PAGE);
    struct vfio_iommu_type1_info info = {.argsz = sizeof(info)};
    run(&GET_INFO, &info);
}

static void test_map_and_unmap(void)
{
    uintptr_t va = 0x200000000000;

    section("MAP_DMA");
    map_dma(3, va, 0x10000, PAGE);
    map_dma(3, va, 0x10000, PAGE);
    map_dma(0, va, 0x20000, PAGE);
    map_dma(1, va, 0x30000, PAGE);
    map_dma(2, va, 0x40000, PAGE);
    map_dma(4, va, 0x50000, PAGE);
    map_dma(7, va, 0x50000, PAGE);
    map_dma(3, va, 0x50000, 0);
    map_dma(3, va + 1, 0x50001, 3);
    map_dma(3, va, UINT64_MAX, 1);
    map_dma(3, va, UINT64_MAX, 2);
    map_dma(3, va, UINT64_MAX - PAGE + 1, PAGE);
    map_dma(3, UINT64_MAX, 0x60000, 2);
    map_dma(3, 0, 0, UINT64_MAX);
    map_dma(3, 0, 0, UINT64_MAX - PAGE + 1);

    section("UNMAP_DMA");
    unmap_dma(0, 0x10000, 0);
    unmap_dma(0, 0x90000, PAGE);
    unmap_dma(0, 0x10001, 1);
    unmap_dma(0, 0x10000, PAGE / 2);
    unmap_dma(0, 0x10000, PAGE);
    unmap_dma(0, 0x10000, PAGE);
    unmap_dma(0, 0, 0x31000);
    unmap_dma(0, 0x40000, UINT64_MAX);
    unmap_dma(1, 0, PAGE);
    unmap_dma(4, 0, PAGE);
    unmap_dma(2, 0, PAGE);
    unmap_dma(2, PAGE, 0);
    unmap_dma(2, 0, 0);
    unmap_dma(2, 0, 0);
    unmap_dma(3, 0, 0);
}

static void test_short_structs(void)
{
    struct vfio_iommu_type1_dma_map map_cmd = {.flags = 3, .iova = 0x10000, .size = PAGE};
    struct vfio_iommu_type1_dma_unmap unmap_cmd = {.iova = 0x10000, .size = PAGE};
    unsigned char *edge =
        (unsigned char *)map_region_at("edge", 0x210000000000, PAGE, PROT_READ | PROT_WRITE) + PAGE;

    section("argsz");
    for (uint32_t size = 30; size != 34; size++) {
        map_cmd.argsz = size;
        run(&MAP_DMA, &map_cmd);
    }
    for (uint32_t size = 22; size != 26; size++) {
        unmap_cmd.argsz = size;
        unmap_cmd.size = PAGE;
        run(&UNMAP_DMA, &unmap_cmd);
    }
    section("structs cut off by the end of a mapping");
    map_cmd.argsz = 32;
    unmap_cmd.argsz = 24;
    unmap_cmd.size = PAGE;
    for (unsigned there = 0; there <= 32; there += there < 28 ? 4 : 1) {
        memcpy(edge - there, &map_cmd, there);
        run_raw(VFIO_IOMMU_MAP_DMA, (uintptr_t)edge - there, "MAP_DMA, %u bytes there", there);
    }
    for (unsigned there = 0; there <= 24; there += there < 20 ? 4 : 1) {
        memcpy(edge - there, &unmap_cmd, there);
        run_raw(VFIO_IOMMU_UNMAP_DMA, (uintptr_t)edge - there, "UNMAP_DMA, %u bytes there", there);
    }
    section("an answer that cannot be stored");
    run(&MAP_DMA, &map_cmd);
    memcpy(edge - 24, &unmap_cmd, 24);
    mprotect(edge - PAGE, PAGE, PROT_READ);
    run_raw(VFIO_IOMMU_UNMAP_DMA, (uintptr_t)edge - 24, "UNMAP_DMA read-only");
    run_raw(VFIO_IOMMU_UNMAP_DMA, (uintptr_t)edge - 24, "UNMAP_DMA read-only, nothing there");
    munmap(edge - PAGE, PAGE);
}

/** After SET_IOMMU of type1, not of type1v2, UNMAP_DMA can cut an area at page boundaries. */
static void test_cutting(uint32_t ioas)
{
    run_raw(VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU, "SET_IOMMU type1v2");
    map_dma(3, 0, 0x100000, 16 * PAGE);
    unmap_dma(0, 0x104000, PAGE);
    print_iova_ranges(ioas);
    run_raw(VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU, "SET_IOMMU type1");
    print_iova_ranges(ioas);
    unmap_dma(0, 0x104000, PAGE);
    unmap_dma(0, 0x104000, PAGE);
    unmap_dma(0, 0x105800, PAGE);
    unmap_dma(0, 0x105000, 0x800);
    unmap_dma(0, 0x105000, 1);
    unmap_dma(0, 0x103000, 3 * PAGE);
    unmap_dma(0, 0xff000, 2 * PAGE);
    unmap_dma(0, 0x10f000, 4 * PAGE);
    unmap_dma(0, 0x108000, 0);
    unmap_dma(0, 0x107000, UINT64_MAX);
    unmap(ioas, 0x106000, PAGE);
    unmap(ioas, 0x106000, 9 * PAGE);
    unmap_dma(2, 0, 0);
    section("cutting at 0, and two areas at once");
    map_dma(3, 0, 0, 4 * PAGE);
    map_dma(3, 0, 4 * PAGE, 4 * PAGE);
    unmap_dma(0, 0, PAGE);
    unmap_dma(0, 3 * PAGE, 2 * PAGE);
    unmap_dma(0, 0, 0x100000);
    section("a cut that fails has made the other one");
    map_dma(3, 0, 0, 8 * PAGE);
    unmap_dma(0, 0x800, PAGE * 3 - 0x800);
    unmap(ioas, 3 * PAGE, 5 * PAGE);
    unmap(ioas, 0, UINT64_MAX);
    section("what was mapped without alignment cannot be switched");
    option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, ioas, 1);
    map_dma(3, 0, 1, 1);
    run_raw(VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU, "SET_IOMMU type1");
    unmap_dma(2, 0, 0);
}

int main(void)
{
    uint32_t ioas;

    begin("type1 without a compatibility IOAS");
    make_buffer(16);
    test_plain_arguments();
    test_other_requests();
    test_get_info();
    test_map_and_unmap();
    test_short_structs();
    section("with a compatibility IOAS");
    ioas = ioas_alloc();
    vfio_ioas(IOMMU_VFIO_IOAS_SET, ioas);
    run_raw(VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU, "CHECK_EXTENSION DMA_CC");
    test_get_info();
    test_map_and_unmap();
    test_short_structs();
    section("type1 and type1v2");
    test_cutting(ioas);
    section("SET_IOMMU with a compatibility IOAS");
    test_plain_arguments();
    test_other_requests();
    test_get_info();
    section("the compatibility IOAS is destroyed");
    destroy(ioas);
    run_raw(VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU, "CHECK_EXTENSION DMA_CC");
    run_raw(VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU, "SET_IOMMU type1");
    map_dma(3, 0, 0, PAGE);
    return 0;
}

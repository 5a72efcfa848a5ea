/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random commands on a few IOASes, most of them valid and the others wrong by little. They produce
 * cases such as automatic IOVAs among many areas of odd sizes, unmaps at the edge of an area,
 * copies of copies, allowed ranges that divide free space, and an alignment that changes.
 *
 *   random SEED COUNT [vfio]     vfio: VFIO's type1 commands and file mappings, too
 *
 * The client has no model of the results. It records the areas that it has mapped, so that most
 * arguments hit one.
 */
#include "transcript/ioas.h"
#include "random.h"

#include <linux/vfio.h>

enum { MAX_IOAS = 4, MAX_AREAS = 64 };

struct area {
    uint64_t iova, length;
};

static uint32_t ioases[MAX_IOAS];
static struct area areas[MAX_IOAS][MAX_AREAS];
static unsigned area_count[MAX_IOAS];

static unsigned some_ioas(void)
{
    return (unsigned)below(MAX_IOAS);
}

static uint32_t some_id(unsigned ioas)
{
    return chance(97) ? ioases[ioas] : (uint32_t)below(12);
}

/**
 * Returns a length: pages, odd bytes, a power of two or a neighbour of one, seldom an enormous one.
 */
static uint64_t some_length(void)
{
    uint64_t length;

    switch (below(12)) {
    case 0:
        return below(4);
    case 1:
        return 1 + below(0x3000);
    case 2:
        length = 1UL << below(40);
        return length + below(3) - 1;
    case 3:
        return 1UL << (12 + below(20));
    case 4:
        length = 0x200000 * (1 + below(4));
        return chance(30) ? length + PAGE : length;
    case 5:
        return chance(20) ? 1UL << (55 + below(9)) : PAGE;
    default:
        return PAGE * (1 + below(16));
    }
}

/** Returns a user address of any alignment. No page is pinned, so nothing need be mapped there. */
static uint64_t some_address(void)
{
    uint64_t base = 0x200000000000 + (below(64) << 30);

    switch (below(8)) {
    case 0:
        return base + below(0x4000);
    case 1:
        return base | 1UL << below(30);
    case 2:
        return chance(50) ? 0 : UINT64_MAX - below(0x4000);
    case 3:
        return base;
    case 4:
        return base + 0x200000 * below(8);
    default:
        return base + PAGE * below(64);
    }
}

static struct area some_area(unsigned ioas)
{
    if (!area_count[ioas] || chance(5)) {
        struct area unknown;

        unknown.iova = PAGE * below(0x4000);
        unknown.length = PAGE * (1 + below(8));
        return unknown;
    }
    return areas[ioas][below(area_count[ioas])];
}

/** Returns an IOVA at the beginning of an area, just before it, in it or behind it. */
static uint64_t some_iova(unsigned ioas, uint64_t length)
{
    struct area area = some_area(ioas);
    uint64_t last;

    switch (below(10)) {
    case 0:
        return area.iova;
    case 1:
        return area.iova - length;
    case 2:
        return area.iova - length + 1;
    case 3:
        return area.iova + area.length - 1;
    case 4:
        last = UINT64_MAX - below(3);
        return chance(50) ? last - length : last;
    case 5:
        return below(0x3000);
    case 6:
        return PAGE * below(0x4000);
    default:
        return area.iova + area.length + (chance(30) ? below(0x2000) : 0);
    }
}

static uint32_t some_flags(void)
{
    uint32_t flags = chance(97) ? R | (chance(70) ? (uint32_t)W : 0) : (uint32_t)below(8);

    return flags & ~(uint32_t)FIXED;
}

static void record_area(unsigned ioas, uint64_t iova, uint64_t length)
{
    if (iova == UINT64_MAX)
        return;
    if (area_count[ioas] == MAX_AREAS)
        areas[ioas][below(MAX_AREAS)] = (struct area){iova, length};
    else
        areas[ioas][area_count[ioas]++] = (struct area){iova, length};
}

static void drop_area(unsigned ioas, uint64_t iova)
{
    for (unsigned i = 0; i != area_count[ioas]; i++)
        if (areas[ioas][i].iova == iova) {
            areas[ioas][i] = areas[ioas][--area_count[ioas]];
            return;
        }
}

static void do_map(void)
{
    unsigned ioas = some_ioas();
    uint64_t length = some_length();
    bool is_fixed = !chance(60);
    uint64_t iova = is_fixed ? some_iova(ioas, length) : below(3);
    uint32_t flags = some_flags() | (is_fixed ? (uint32_t)FIXED : 0);
    uint64_t address = some_address();

    record_area(ioas, map(some_id(ioas), address, length, flags, iova), length);
}

static void do_copy(void)
{
    unsigned from = some_ioas(), to = some_ioas();
    struct area area = some_area(from);
    uint64_t skip = chance(40) && area.length > 1 ? below(area.length) : 0;
    uint64_t length = area.length - skip, iova;
    uint32_t flags, source;

    if (chance(30))
        length = 1 + below(length ? length : 1);
    if (chance(10))
        length += 1 + below(0x2000);
    iova = some_iova(to, length);
    flags = some_flags();
    if (chance(40))
        flags |= FIXED;
    source = some_id(from);
    record_area(to, copy(some_id(to), source, area.iova + skip, length, flags, iova), length);
}

static void do_unmap(void)
{
    unsigned ioas = some_ioas();
    struct area area = some_area(ioas);
    uint64_t iova = area.iova, length = area.length;

    switch (below(8)) {
    case 0:
        length--;
        break;
    case 1:
        length += 1 + below(0x4000);
        break;
    case 2:
        iova -= below(0x3000);
        length += 0x3000;
        break;
    case 3:
        iova++;
        break;
    case 4:
        if (chance(20)) {
            iova = 0;
            length = UINT64_MAX;
            area_count[ioas] = 0;
        }
        break;
    default:
        break;
    }
    if (!unmap(some_id(ioas), iova, length))
        drop_area(ioas, area.iova);
}

static void do_allow(void)
{
    unsigned ioas = some_ioas();
    struct iommu_iova_range list[4];
    uint32_t count = (uint32_t)below(5);
    uint64_t at = below(0x8000);

    for (uint32_t i = 0; i != count; i++) {
        uint64_t length = some_length();

        list[i].start = at;
        list[i].last = at + length - (chance(90) ? 1 : 0);
        at += length + below(0x10000);
        if (chance(5))
            at -= below(0x20000);
    }
    if (!chance(50))
        count = 0;
    allow_iova_list(some_id(ioas), list, count);
}

static void do_option(void)
{
    unsigned ioas = some_ioas();
    uint64_t value = chance(70) ? 1 : below(3);
    uint32_t id = some_id(ioas);

    option(IOMMU_OPTION_HUGE_PAGES, (uint16_t)below(2), id, value);
}

static void do_type1_map(void)
{
    unsigned ioas = some_ioas();
    struct vfio_iommu_type1_dma_map cmd = {.argsz = sizeof(cmd), .flags = some_flags() >> 1};

    cmd.size = some_length();
    cmd.vaddr = some_address();
    cmd.iova = some_iova(ioas, cmd.size);
    if (chance(3))
        cmd.flags = (uint32_t)below(16);
    if (!run_raw(VFIO_IOMMU_MAP_DMA, (uintptr_t)&cmd, "MAP_DMA flags=%#x vaddr=%#llx iova=%#llx %#llx",
                 cmd.flags, (unsigned long long)cmd.vaddr, (unsigned long long)cmd.iova,
                 (unsigned long long)cmd.size))
        record_area(ioas, cmd.iova, cmd.size);
}

/** Unmaps a part of an area, mostly whole pages, because type1 can cut areas. */
static void do_type1_unmap(void)
{
    unsigned ioas = some_ioas();
    struct area area = some_area(ioas);
    struct vfio_iommu_type1_dma_unmap cmd = {
        .argsz = sizeof(cmd), .iova = area.iova, .size = area.length};

    if (chance(60)) {
        uint64_t skip = below(area.length ? area.length : 1);

        if (chance(80))
            skip &= ~0xfffULL;
        cmd.iova += skip;
        cmd.size -= skip;
    }
    if (chance(40))
        cmd.size = chance(80) ? PAGE * (1 + below(8)) : 1 + below(0x4000);
    if (chance(3)) {
        cmd.flags = (uint32_t)below(4);
        cmd.iova = cmd.size = 0;
    }
    run_raw(VFIO_IOMMU_UNMAP_DMA, (uintptr_t)&cmd, "UNMAP_DMA flags=%#x iova=%#llx %#llx", cmd.flags,
            (unsigned long long)cmd.iova, (unsigned long long)cmd.size);
    printf("    %#llx bytes\n", (unsigned long long)cmd.size);
}

static void do_type1_other(void)
{
    static int file = -1;
    unsigned ioas = some_ioas();
    uint64_t length = some_length(), iova, address;
    uint32_t flags, id;

    if (file < 0)
        file = name_fd("memfd", memfd_create("memory", 0));
    switch (below(4)) {
    case 0:
        run_raw(VFIO_SET_IOMMU, chance(90) ? VFIO_TYPE1_IOMMU : VFIO_TYPE1v2_IOMMU, "SET_IOMMU");
        break;
    case 1:
        id = some_id(ioas);
        vfio_ioas((uint16_t)(chance(80) ? IOMMU_VFIO_IOAS_SET : below(4)), id);
        break;
    default:
        iova = some_iova(ioas, length);
        flags = some_flags();
        if (chance(50))
            flags |= FIXED;
        address = some_address() & 0xffffffffffff;
        record_area(ioas, map_file(some_id(ioas), file, address, length, flags, iova), length);
    }
}

static void do_replace_ioas(void)
{
    unsigned ioas = some_ioas();

    destroy(some_id(ioas));
    ioases[ioas] = ioas_alloc();
    area_count[ioas] = 0;
}

int main(int argc, char **argv)
{
    unsigned count = 500;
    bool vfio = argc > 3;

    read_seed_and_count(argc, argv, &count);
    begin("random");
    for (unsigned i = 0; i != MAX_IOAS; i++)
        ioases[i] = ioas_alloc();
    for (unsigned i = 0; i != count; i++) {
        unsigned choice = (unsigned)below(100);

        if (vfio && chance(40))
            choice < 30 ? do_type1_map() : choice < 80 ? do_type1_unmap() : do_type1_other();
        else if (choice < 50)
            do_map();
        else if (choice < 68)
            do_copy();
        else if (choice < 90)
            do_unmap();
        else if (choice < 94)
            do_allow();
        else if (choice < 96)
            do_option();
        else if (choice < 98)
            print_iova_ranges(some_id(some_ioas()));
        else
            do_replace_ioas();
    }
    return 0;
}

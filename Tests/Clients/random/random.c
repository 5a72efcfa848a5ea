/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random SEED COUNT [vfio]: a repeatable sequence of operations on a few IOASes, most of them valid,
 * the others wrong by a little. With "vfio" there are VFIO's type1 commands and files among them.
 * It asks for what nobody thought of: placement among many areas of odd
 * sizes, unmaps that hit the edge of an area, copies of copies, allowed lists that cut free space,
 * alignment that changes under way.
 *
 * The client keeps no model of what should happen; it only remembers the IOVAs it was given, so
 * that most arguments hit something.
 */
#include "transcript/ioas.h"
#include "random.h"

#include <linux/vfio.h>

enum { MAX_IOAS = 4, MAX_KNOWN = 64 };

struct area {
    uint64_t iova, length;
};

static uint32_t ioases[MAX_IOAS];
static struct area known[MAX_IOAS][MAX_KNOWN];
static unsigned known_count[MAX_IOAS];

static unsigned some_space(void)
{
    return (unsigned)below(MAX_IOAS);
}

static uint32_t some_id(unsigned space)
{
    return chance(97) ? ioases[space] : (uint32_t)below(12);
}

/** Lengths: pages, odd bytes, powers of two and their neighbours, now and then enormous. */
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

/** User addresses with every alignment; nothing is read, so none need exist. */
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

static struct area some_area(unsigned space)
{
    if (!known_count[space] || chance(5)) {
        struct area unknown;

        unknown.iova = PAGE * below(0x4000);
        unknown.length = PAGE * (1 + below(8));
        return unknown;
    }
    return known[space][below(known_count[space])];
}

/** At, just before, within or behind an area. */
static uint64_t some_iova(unsigned space, uint64_t length)
{
    struct area area = some_area(space);
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

static void learn(unsigned space, uint64_t iova, uint64_t length)
{
    if (iova == UINT64_MAX)
        return;
    if (known_count[space] == MAX_KNOWN)
        known[space][below(MAX_KNOWN)] = (struct area){iova, length};
    else
        known[space][known_count[space]++] = (struct area){iova, length};
}

static void forget(unsigned space, uint64_t iova)
{
    for (unsigned i = 0; i != known_count[space]; i++)
        if (known[space][i].iova == iova) {
            known[space][i] = known[space][--known_count[space]];
            return;
        }
}

static void do_map(void)
{
    unsigned space = some_space();
    uint64_t length = some_length();
    bool is_fixed = !chance(60);
    uint64_t iova = is_fixed ? some_iova(space, length) : below(3);
    uint32_t flags = some_flags() | (is_fixed ? (uint32_t)FIXED : 0);
    uint64_t address = some_address();

    learn(space, map(some_id(space), address, length, flags, iova), length);
}

static void do_copy(void)
{
    unsigned from = some_space(), to = some_space();
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
    learn(to, copy(some_id(to), source, area.iova + skip, length, flags, iova), length);
}

static void do_unmap(void)
{
    unsigned space = some_space();
    struct area area = some_area(space);
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
            known_count[space] = 0;
        }
        break;
    default:
        break;
    }
    if (!unmap(some_id(space), iova, length))
        forget(space, area.iova);
}

static void do_allow(void)
{
    unsigned space = some_space();
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
    allow_list(some_id(space), list, count);
}

static void do_option(void)
{
    unsigned space = some_space();
    uint64_t value = chance(70) ? 1 : below(3);
    uint32_t id = some_id(space);

    option(IOMMU_OPTION_HUGE_PAGES, (uint16_t)below(2), id, value);
}

static void do_type1_map(void)
{
    unsigned space = some_space();
    struct vfio_iommu_type1_dma_map cmd = {.argsz = sizeof(cmd), .flags = some_flags() >> 1};

    cmd.size = some_length();
    cmd.vaddr = some_address();
    cmd.iova = some_iova(space, cmd.size);
    if (chance(3))
        cmd.flags = (uint32_t)below(16);
    if (!run_raw(VFIO_IOMMU_MAP_DMA, (uintptr_t)&cmd, "MAP_DMA flags=%#x vaddr=%#llx iova=%#llx %#llx",
                 cmd.flags, (unsigned long long)cmd.vaddr, (unsigned long long)cmd.iova,
                 (unsigned long long)cmd.size))
        learn(space, cmd.iova, cmd.size);
}

/** Type1 may cut areas, so the range is any part of one, mostly whole pages. */
static void do_type1_unmap(void)
{
    unsigned space = some_space();
    struct area area = some_area(space);
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

static void do_type1_choice(void)
{
    static int file = -1;
    unsigned space = some_space();
    uint64_t length = some_length(), iova, address;
    uint32_t flags, id;

    if (file < 0)
        file = name_fd("memfd", memfd_create("memory", 0));
    switch (below(4)) {
    case 0:
        run_raw(VFIO_SET_IOMMU, chance(90) ? VFIO_TYPE1_IOMMU : VFIO_TYPE1v2_IOMMU, "SET_IOMMU");
        break;
    case 1:
        id = some_id(space);
        vfio_ioas((uint16_t)(chance(80) ? IOMMU_VFIO_IOAS_SET : below(4)), id);
        break;
    default:
        iova = some_iova(space, length);
        flags = some_flags();
        if (chance(50))
            flags |= FIXED;
        address = some_address() & 0xffffffffffff;
        learn(space, map_file(some_id(space), file, address, length, flags, iova), length);
    }
}

static void do_renew(void)
{
    unsigned space = some_space();

    destroy(some_id(space));
    ioases[space] = ioas_alloc();
    known_count[space] = 0;
}

int main(int argc, char **argv)
{
    unsigned count = 500;
    bool vfio = argc > 3;

    random_arguments(argc, argv, &count);
    begin("random");
    for (unsigned i = 0; i != MAX_IOAS; i++)
        ioases[i] = ioas_alloc();
    for (unsigned i = 0; i != count; i++) {
        unsigned choice = (unsigned)below(100);

        if (vfio && chance(40))
            choice < 30 ? do_type1_map() : choice < 80 ? do_type1_unmap() : do_type1_choice();
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
            show_ranges(some_id(some_space()));
        else
            do_renew();
    }
    return 0;
}

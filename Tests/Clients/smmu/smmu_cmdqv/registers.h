/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page of the interface's registers: as a mapping, and by calls; and what the registers of a queue do
 * while it is enabled, is not, and goes.
 */
#ifndef SMMU_CMDQV_REGISTERS_H
#define SMMU_CMDQV_REGISTERS_H

#include "objects.h"

static void *page;
static struct queue first, second;
/** How registers are reached; "part": a front end may be without. */
static const char *chapter = "part vintf";

static void *map_page_of(size_t length, int protection, int flags, uint64_t offset)
{
    return mmap(NULL, length, protection, flags, iommufd, (off_t)offset);
}

/** A vIOMMU of which nothing else is used. */
static void keep_by_mapping(void)
{
    struct iommu_viommu_tegra241_cmdqv place;
    long other = make_viommu(device_id, parent, CMDQV, &place, sizeof(place));
    void *mapping = map_page_of(VINTF_LENGTH, PROT_READ, MAP_SHARED, place.out_vintf_mmap_offset);

    check(other > 0 && mapping != MAP_FAILED, "another interface's page");
    fails(-remove_object((uint32_t)other), EBUSY, "which keeps its vIOMMU");
    munmap(mapping, PAGE);
    fails(-remove_object((uint32_t)other), EBUSY, "what is left of it, too");
    munmap((char *)mapping + PAGE, VINTF_LENGTH - PAGE);
    check(!remove_object((uint32_t)other), "nothing is left");
}

static void find_queues(void)
{
    const uint64_t offset = interface.out_vintf_mmap_offset;

    first = queue_at(page, offset, 0, rings[0], ENTRIES);
    second = queue_at(page, offset, 1, rings[1], ENTRIES);
    for (int index = CONS_INDX; index <= GERRORN; index++)
        if (get(&first, index) || get(&second, index))
            exit(1);
    check(true, "all registers are 0");
}

static bool map_interface(void)
{
    enum { BOTH = PROT_READ | PROT_WRITE };
    const uint64_t there = interface.out_vintf_mmap_offset;

    page = map_page_of(VINTF_LENGTH, BOTH, MAP_SHARED, there);
    if (page == MAP_FAILED && errno == ENODEV)
        return false;
    section("part vintf: the page");
    check(page != MAP_FAILED, "mapped");
    check(pread(iommufd, &(uint32_t){0}, 4, IOMMUFD_SIM_REGISTERS + (off_t)there) == -1 &&
              errno == EINVAL, "pread is no call of an iommufd: EINVAL");
    check(map_page_of(VINTF_LENGTH, PROT_EXEC, MAP_SHARED, there) == MAP_FAILED && errno == EPERM,
          "to execute: EPERM");
    check(map_page_of(VINTF_LENGTH, BOTH, MAP_PRIVATE, there) == MAP_FAILED && errno == EINVAL,
          "privately: EINVAL");
    check(map_page_of(PAGE, BOTH, MAP_SHARED, there) == MAP_FAILED && errno == ENXIO,
          "the first bytes of it: ENXIO");
    check(map_page_of(VINTF_LENGTH, BOTH, MAP_SHARED, there + VINTF_LENGTH) == MAP_FAILED &&
              errno == ENXIO, "another interface's, which has gone: ENXIO");
    find_queues();
    keep_by_mapping();
    return true;
}

/** The same registers by calls, an extension of the simulator's. */
static bool call_interface(void)
{
    const off_t there = IOMMUFD_SIM_REGISTERS + (off_t)interface.out_vintf_mmap_offset;
    uint32_t values[2] = {7, 7};

    chapter = "by calls";
    section("by calls: the page");
    check(pread(iommufd, values, 4, there) == 4 && values[0] == 0, "a register by pread");
    check(pread(iommufd, values, 8, there) == -1 && errno == EINVAL, "8 bytes: EINVAL");
    check(pwrite(iommufd, values, 4, there + 2) == -1 && errno == EINVAL,
          "not at a multiple of 4: EINVAL");
    check(pwrite(iommufd, values, 4, there + VINTF_LENGTH) == -1 && errno == EINVAL,
          "beyond the page: EINVAL");
    check(pread(iommufd, values, 4, there - 4) == -1 && errno == EINVAL, "below all pages: EINVAL");
    find_queues();
    return true;
}

/** Returns when all that was stored in the first queue's registers before has been seen. */
static void settle(void)
{
    if (!execute(&second, synchronize(0)) || !execute(&second, synchronize(0)))
        exit(1);
}

static void registers(void)
{
    section("%s: enabling", chapter);
    push(&first, synchronize(0));
    ring_bell(&first);
    check(enable(&second, 1), "the second queue");
    settle();
    check(get(&first, CONS_INDX) == 0 && !get(&first, STATUS_EN_OK), "the first stands still");
    check(enable(&first, 1) && is_done(&first), "until it is enabled");
    set(&first, STATUS_EN_OK, 0xff);
    set(&first, CONS_INDX, 0x1234);
    set(&first, GERROR, 7);
    settle();
    check(get(&first, STATUS_EN_OK) == 1 && get(&first, CONS_INDX) == 1 && !get(&first, GERROR),
          "what only hardware changes");
    check(enable(&first, 0) && get(&first, CONS_INDX) == 1, "disabled: it stays where it is");
    push(&first, (struct smmu_command){{0}}); /* no operation: it would stop the queue */
    ring_bell(&first);
    settle();
    check(get(&first, CONS_INDX) == 1 && !get(&first, GERROR), "and does nothing");
    set(&first, PROD_INDX, ENTRIES - 2);
    set(&first, CONS_INDX, ENTRIES - 2);
    first.producer = ENTRIES - 2;
    check(enable(&first, 1), "enabled, from another place");
    for (int i = 0; i != 4; i++)
        push(&first, synchronize(0));
    ring_bell(&first);
    check(is_done(&first) && get(&first, CONS_INDX) == ENTRIES + 2, "round the end of the ring");
    for (int i = 0; i != 3; i++) {
        for (int j = 0; j != ENTRIES; j++)
            push(&first, synchronize(0));
        ring_bell(&first);
        if (!is_done(&first))
            exit(1);
    }
    check(true, "a full ring, three times");
}

static void ending(void)
{
    const int times = page ? 200 : 20;
    uint32_t place;

    section("%s: queues that go while they work", chapter);
    for (int i = 0; i != times; i++) {
        for (int j = 0; j != ENTRIES; j++)
            push(&second, tlbi(NH_ASID, 12, 0));
        ring_bell(&second);
        if (remove_object(queue_ids[1]))
            exit(1);
        memset(at(rings[1]), 0, PAGE);
        queue_ids[1] = (uint32_t)make_queue(viommu, QUEUE, 1, rings[1], PAGE);
        second.producer = 0;
        if (get(&second, CONS_INDX) || get(&second, GERROR) || !enable(&second, 1))
            exit(1);
    }
    check(execute(&second, synchronize(0)), "and come again, %d times", times);
    check(remove_object(queue_ids[1]) == 0 && !get(&second, STATUS_EN_OK), "one is gone");
    place = get(&second, CONS_INDX);
    push(&second, synchronize(0));
    ring_bell(&second);
    check(execute(&first, synchronize(0)) && execute(&first, synchronize(0)) &&
              get(&second, CONS_INDX) == place, "only the other works");
    check(remove_object(queue_ids[0]) == 0, "both are gone");
}

#endif /* SMMU_CMDQV_REGISTERS_H */

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mock_random.c knows of the objects that it has made, the arguments that it makes up from that, and
 * how it makes more of them.
 */
#ifndef MOCK_RANDOM_OBJECTS_H
#define MOCK_RANDOM_OBJECTS_H

#include "mock/mock.h"
#include "random.h"

enum kind { IOAS, STDEV, IDEV, HWPT, PARENT, NESTED, FAULT, VIOMMU, VDEVICE, VEVENTQ, KINDS };

static struct {
    uint32_t ids[8];
    unsigned count;
} objects[KINDS];
static struct {
    char name[12];
    int fd;
} queues[4];

static const uint32_t pasids[] = {0, 5, 6, 1024, 1 << 20};

/** An id of the kind, or, one time in ten, of any. */
static uint32_t pick(enum kind kind)
{
    if (chance(10))
        kind = below(KINDS);
    if (!objects[kind].count || chance(2))
        return below(40);
    return objects[kind].ids[below(objects[kind].count)];
}

static void keep(enum kind kind, uint32_t id)
{
    if (!id)
        return;
    if (objects[kind].count != COUNT(objects[kind].ids))
        objects[kind].count++;
    else if (below(2)) /* an old one stays, but is not thought of any more */
        objects[kind].ids[below(7)] = objects[kind].ids[7];
    objects[kind].ids[objects[kind].count - 1] = id;
}

static void forget(uint32_t id)
{
    for (unsigned kind = 0; kind != KINDS; kind++)
        for (unsigned i = 0; i < objects[kind].count;)
            if (objects[kind].ids[i] == id)
                objects[kind].ids[i] = objects[kind].ids[--objects[kind].count];
            else
                i++;
}

static void detach_pasids(uint32_t stdev)
{
    for (unsigned i = 1; i != COUNT(pasids); i++)
        pasid_detach(stdev, pasids[i]);
}

static void keep_queue(int fd)
{
    unsigned slot = 0;

    while (slot != COUNT(queues) - 1 && queues[slot].fd >= 0)
        slot++;
    if (queues[slot].fd >= 0)
        close(queues[slot].fd);
    queues[slot].fd = fd;
    for (size_t i = 0; i != named_fd_count; i++)
        if (named_fds[i].name == queues[slot].name) {
            named_fds[i].fd = fd;
            return;
        }
    snprintf(queues[slot].name, sizeof(queues[slot].name), "queue%u", slot);
    name_fd(queues[slot].name, fd);
}

static uint64_t some_iova(void)
{
    uint64_t iova = MOCK_START + below(8) * PAGE;

    return chance(15) ? iova + below(2) * 0x800 : iova;
}

static uint32_t some_flags(uint32_t likely)
{
    return chance(8) ? below(32) : likely;
}

static void make_device(void)
{
    struct mock_device device;
    uint32_t flags;

    if (objects[STDEV].count == 4)
        return;
    flags = 4 * below(2);
    flags |= below(2);
    flags = some_flags(flags);
    if (!mock_domain_flags(pick(IOAS), flags, &device)) {
        keep(STDEV, device.stdev);
        keep(IDEV, device.idev);
    }
}

static void make_paging(enum kind kind, uint32_t flags, uint32_t fault)
{
    uint32_t ioas = pick(IOAS);

    keep(kind, hwpt_alloc_with(pick(IDEV), ioas, flags, 0, NULL, 0, fault));
}

static void make_nested(void)
{
    uint32_t fault = pick(FAULT), flags = PASID * (below(5) != 0), on;

    flags |= FAULTS * below(2);
    flags = some_flags(flags);
    on = pick(below(2) ? PARENT : VIOMMU);
    keep(NESTED, nested_alloc(pick(IDEV), on, flags, fault));
}

static void make_table(void)
{
    uint32_t fault, flags;

    switch (below(5)) {
    case 0:
        flags = TRACK * below(2);
        flags |= PASID * (below(5) != 0);
        make_paging(HWPT, some_flags(flags), 0);
        break;
    case 1:
        fault = pick(FAULT);
        make_paging(HWPT, some_flags(FAULTS + PASID * below(2)), fault);
        break;
    case 2:
        make_paging(PARENT, some_flags(NEST), 0);
        break;
    default:
        make_nested();
    }
}

static void make_virtual(void)
{
    uint32_t parent = pick(PARENT);

    keep(VIOMMU, viommu_alloc(pick(IDEV), parent, IOMMU_VIOMMU_TYPE_SELFTEST, NULL, 0));
}

static void make_virtual_device(void)
{
    uint64_t name = 0x50 + below(3);
    uint32_t device = pick(IDEV);

    keep(VDEVICE, vdevice_alloc(pick(VIOMMU), device, name));
}

static void make_queue(void)
{
    if (below(2)) {
        struct iommu_fault_alloc cmd = {.size = sizeof(cmd), .flags = chance(5)};

        if (run(&FAULT_QUEUE_ALLOC, &cmd))
            return;
        keep(FAULT, cmd.out_fault_id);
        keep_queue((int)cmd.out_fault_fd);
    } else {
        struct iommu_veventq_alloc cmd = {.size = sizeof(cmd)};

        cmd.viommu_id = pick(VIOMMU);
        cmd.type = IOMMU_VEVENTQ_TYPE_SELFTEST + chance(9);
        cmd.veventq_depth = below(4);
        if (run(&VEVENTQ_ALLOC, &cmd))
            return;
        keep(VEVENTQ, cmd.out_veventq_id);
        keep_queue((int)cmd.out_veventq_fd);
    }
}

#endif /* MOCK_RANDOM_OBJECTS_H */

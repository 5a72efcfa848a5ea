/* SPDX-License-Identifier: Apache-2.0 */
#include "objects.h"

struct objects objects[KINDS];
struct queue queues[QUEUES] = {{"", -1}, {"", -1}, {"", -1}, {"", -1}};
const uint32_t pasids[PASIDS] = {0, 5, 6, 1024, 1 << 20};

uint32_t some_id(enum kind kind)
{
    if (chance(10))
        kind = below(KINDS);
    if (!objects[kind].count || chance(2))
        return below(40);
    return objects[kind].ids[below(objects[kind].count)];
}

void remember_id(enum kind kind, uint32_t id)
{
    if (!id)
        return;
    if (objects[kind].count != COUNT(objects[kind].ids))
        objects[kind].count++;
    else if (below(2)) /* forgets an object that still exists */
        objects[kind].ids[below(7)] = objects[kind].ids[7];
    objects[kind].ids[objects[kind].count - 1] = id;
}

void forget_id(uint32_t id)
{
    for (unsigned kind = 0; kind != KINDS; kind++)
        for (unsigned i = 0; i < objects[kind].count;)
            if (objects[kind].ids[i] == id)
                objects[kind].ids[i] = objects[kind].ids[--objects[kind].count];
            else
                i++;
}

void detach_pasids(uint32_t stdev)
{
    for (unsigned i = 1; i != COUNT(pasids); i++)
        pasid_detach(stdev, pasids[i]);
}

static void store_queue(int fd)
{
    unsigned slot = 0;

    while (slot != COUNT(queues) - 1 && queues[slot].fd >= 0)
        slot++;
    if (queues[slot].fd >= 0)
        close(queues[slot].fd);
    queues[slot].fd = fd;
    snprintf(queues[slot].name, sizeof(queues[slot].name), "queue%u", slot);
    rename_fd(queues[slot].name, fd);
}

uint64_t some_iova(void)
{
    uint64_t iova = MOCK_START + below(8) * PAGE;

    return chance(15) ? iova + below(2) * 0x800 : iova;
}

uint32_t some_flags(uint32_t likely)
{
    return chance(8) ? below(32) : likely;
}

void make_device(void)
{
    struct mock_device device;
    uint32_t flags;

    if (objects[STDEV].count == 4)
        return;
    flags = 4 * below(2);
    flags |= below(2);
    flags = some_flags(flags);
    if (!mock_domain_flags(some_id(IOAS), flags, &device)) {
        remember_id(STDEV, device.stdev);
        remember_id(IDEV, device.idev);
    }
}

static void make_paging(enum kind kind, uint32_t flags, uint32_t fault)
{
    uint32_t ioas = some_id(IOAS);

    remember_id(kind, hwpt_alloc_with(some_id(IDEV), ioas, flags, 0, NULL, 0, fault));
}

static void make_nested(void)
{
    uint32_t fault = some_id(FAULT), flags = PASID * (below(5) != 0), on;

    flags |= FAULTS * below(2);
    flags = some_flags(flags);
    on = some_id(below(2) ? PARENT : VIOMMU);
    remember_id(NESTED, nested_alloc(some_id(IDEV), on, flags, fault));
}

void make_table(void)
{
    uint32_t fault, flags;

    switch (below(5)) {
    case 0:
        flags = TRACK * below(2);
        flags |= PASID * (below(5) != 0);
        make_paging(HWPT, some_flags(flags), 0);
        break;
    case 1:
        fault = some_id(FAULT);
        make_paging(HWPT, some_flags(FAULTS + PASID * below(2)), fault);
        break;
    case 2:
        make_paging(PARENT, some_flags(NEST), 0);
        break;
    default:
        make_nested();
    }
}

void make_viommu(void)
{
    uint32_t parent = some_id(PARENT);

    remember_id(VIOMMU, viommu_alloc(some_id(IDEV), parent, IOMMU_VIOMMU_TYPE_SELFTEST, NULL, 0));
}

void make_vdevice(void)
{
    uint64_t name = 0x50 + below(3);
    uint32_t device = some_id(IDEV);

    remember_id(VDEVICE, vdevice_alloc(some_id(VIOMMU), device, name));
}

void make_queue(void)
{
    if (below(2)) {
        struct iommu_fault_alloc cmd = {.size = sizeof(cmd), .flags = chance(5)};

        if (run(&FAULT_QUEUE_ALLOC, &cmd))
            return;
        remember_id(FAULT, cmd.out_fault_id);
        store_queue((int)cmd.out_fault_fd);
    } else {
        struct iommu_veventq_alloc cmd = {.size = sizeof(cmd)};

        cmd.viommu_id = some_id(VIOMMU);
        cmd.type = IOMMU_VEVENTQ_TYPE_SELFTEST + chance(9);
        cmd.veventq_depth = below(4);
        if (run(&VEVENTQ_ALLOC, &cmd))
            return;
        remember_id(VEVENTQ, cmd.out_veventq_id);
        store_queue((int)cmd.out_veventq_fd);
    }
}

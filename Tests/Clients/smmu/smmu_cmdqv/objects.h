/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the VMM makes for a guest of a Tegra241: its virtual interface, the names of its streams and its
 * queues; and what it cannot have.
 */
#ifndef SMMU_CMDQV_OBJECTS_H
#define SMMU_CMDQV_OBJECTS_H

#include "smmu/smmu_queue.h"

enum { INTERFACES = 63, ENTRIES = PAGE / 16 };

static struct iommu_viommu_tegra241_cmdqv interface;
static uint64_t rings[2];
static uint32_t queue_ids[2];

/** An SMMUv3 without; gives a nesting parent of it, which its device has left. */
static uint32_t without(void)
{
    struct iommu_hw_info_arm_smmuv3 unit;
    struct iommu_hw_info info;
    uint32_t other = bind_device(0, &info, &unit), told;
    uint32_t table = hwpt_alloc(other, ioas, NEST);

    section("a unit without");
    fails(-hw_info(other, IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV, &unit, 8, &told), EOPNOTSUPP,
          "GET_HW_INFO");
    fails(make_viommu(other, table, CMDQV, &interface, 16), EOPNOTSUPP, "VIOMMU_ALLOC");
    close(device);
    return table;
}

static void find_unit(void)
{
    struct iommu_hw_info_tegra241_cmdqv cmdqv = {0};
    struct iommu_hw_info_arm_smmuv3 unit;
    struct iommu_hw_info info;
    uint32_t told = 0;

    device_id = bind_device(2, &info, &unit);
    section("what the unit tells");
    check(unit.idr[0] >> 10 & 1, "an SMMUv3 with ATS");
    check(!hw_info(device_id, IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV, &cmdqv, sizeof(cmdqv), &told) &&
              told == sizeof(cmdqv), "asked for CMDQV");
    check(!cmdqv.flags && !cmdqv.__reserved && cmdqv.version == 1, "version 1");
    check(cmdqv.log2vcmdqs == 1 && cmdqv.log2vsids == 4, "2 queues and 16 streams for a guest");
    fails(-hw_info(device_id, IOMMU_HW_INFO_TYPE_INTEL_VTD, &cmdqv, 8, &told), EOPNOTSUPP,
          "asked for another vendor's");
}

static void interfaces(uint32_t others_parent)
{
    static uint32_t ids[INTERFACES];
    struct iommu_viommu_tegra241_cmdqv many;
    const void *read_only = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t data[3] = {0};
    int made = 0;

    section("VIOMMU_ALLOC");
    fails(make_viommu(device_id, parent, 3, data, 16), EOPNOTSUPP, "of no type");
    fails(make_viommu(device_id, ioas, CMDQV, data, 16), ENOENT, "on no page table");
    fails(make_viommu(device_id, others_parent, CMDQV, data, 0), EINVAL, "on another unit's");
    fails(make_viommu(device_id, parent, CMDQV, NULL, 0), EINVAL, "without data");
    fails(make_viommu(device_id, parent, CMDQV, data, 8), EINVAL, "data without the length");
    fails(make_viommu(device_id, parent, CMDQV, data, 24), EINVAL, "longer data, even of zeros");
    fails(make_viommu(device_id, parent, CMDQV, (void *)nowhere, 16), EFAULT,
          "data that cannot be read");
    fails(make_viommu(device_id, parent, CMDQV, (void *)(uintptr_t)read_only, 16), EFAULT,
          "nor written");
    interface.out_vintf_mmap_offset = 77;
    viommu = (uint32_t)make_viommu(device_id, parent, CMDQV, &interface, sizeof(interface));
    check((int32_t)viommu > 0, "one");
    check(interface.out_vintf_mmap_offset == PAGE, "its page: the first of all");
    check(interface.out_vintf_mmap_length == VINTF_LENGTH, "64 KiB of it");
    for (long id; made != INTERFACES; ids[made++] = (uint32_t)id) {
        id = make_viommu(device_id, parent, CMDQV, &many, sizeof(many));
        if (id < 0)
            break;
        if (many.out_vintf_mmap_offset != PAGE + (made + 1) * (uint64_t)VINTF_LENGTH)
            exit(1);
    }
    check(made == INTERFACES - 1, "%d more", made);
    fails(make_viommu(device_id, parent, CMDQV, data, 16), ENOSPC, "and no other");
    fails(make_viommu(device_id, others_parent, CMDQV, data, 16), EINVAL, "on another unit's");
    check(make_viommu(device_id, parent, SMMUV3, NULL, 0) > 0, "but one without an interface");
    while (made)
        if (remove_object(ids[--made]))
            exit(1);
    check(true, "all gone");
}

static void streams(void)
{
    long name;

    section("VDEVICE_ALLOC");
    fails(make_vdevice(1 << 20), EINVAL, "a stream of 21 bits");
    fails(make_vdevice(~0ULL), EINVAL, "and of 64");
    name = make_vdevice(0xfffff);
    check(name > 0, "one of 20");
    fails(make_vdevice(7), EEXIST, "a second name");
    check(!remove_object((uint32_t)name) && make_vdevice(VIRTUAL_STREAM) > 0, "another instead");
}

static void queues(void)
{
    uint32_t plain = (uint32_t)make_viommu(device_id, parent, SMMUV3, NULL, 0);
    uint64_t base = rings[0];
    long id;

    section("HW_QUEUE_ALLOC");
    fails(make_queue(viommu, 0, 0, base, PAGE), EOPNOTSUPP, "of type 0");
    fails(make_queue(viommu, 2, 0, base, PAGE), EOPNOTSUPP, "of type 2");
    fails(make_queue(viommu, QUEUE, 0, base, 0), EINVAL, "of no length");
    fails(make_queue(viommu, QUEUE, 0, ~0ULL, 2), EOVERFLOW, "beyond all addresses");
    fails(make_queue(device_id, QUEUE, 0, base, PAGE), ENOENT, "on no vIOMMU");
    fails(make_queue(plain, QUEUE, 0, base, PAGE), EOPNOTSUPP, "on one without an interface");
    fails(make_queue(viommu, QUEUE, 9, GUEST_BASE - PAGE, 48), ENOENT, "where no memory is");
    fails(make_queue(viommu, QUEUE, 2, base, 48), EINVAL, "a third");
    fails(make_queue(viommu, QUEUE, 1, base, 48), EIO, "the second without the first");
    fails(make_queue(viommu, QUEUE, 0, base, 16), EINVAL, "of one command");
    fails(make_queue(viommu, QUEUE, 0, base, 48), EINVAL, "of three");
    fails(make_queue(viommu, QUEUE, 0, GUEST_BASE, 1 << 20), EINVAL, "of more than IDR1.CMDQS");
    fails(make_queue(viommu, QUEUE, 0, base + 32, 64), EINVAL, "not at a multiple of its length");
    fails(make_queue(viommu, QUEUE, 0, base + 8, 32), EINVAL, "nor of 32");
    id = make_queue(viommu, QUEUE, 0, base + 32, 32);
    check(id > 0, "the shortest");
    fails(make_queue(viommu, QUEUE, 0, base + 1, 48), EEXIST, "once more");
    check(!remove_object((uint32_t)id), "destroyed");
    for (unsigned i = 0; i != 2; i++) {
        queue_ids[i] = (uint32_t)make_queue(viommu, QUEUE, i, rings[i], PAGE);
        check((int32_t)queue_ids[i] > 0, "queue %u", i);
    }
    fails(-remove_object(queue_ids[0]), EBUSY, "the first goes last");
    fails(-remove_object(viommu), EBUSY, "and the vIOMMU after it");
    fails(unmap(ioas, GUEST_BASE, GUEST_PAGES * PAGE) ? -errno : 0, EBUSY, "the memory is pinned");
}

#endif /* SMMU_CMDQV_OBJECTS_H */

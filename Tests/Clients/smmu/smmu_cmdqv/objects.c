/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The objects that a VMM allocates for a guest of a Tegra241: its virtual interface, vDEVICEs and
 * hardware queues.
 */
#include "parts.h"

enum { INTERFACES = 63 };

struct iommu_viommu_tegra241_cmdqv interface;
uint64_t rings[2];
uint32_t queue_ids[2];

uint32_t test_unit_without_cmdqv(void)
{
    struct iommu_hw_info_arm_smmuv3 unit;
    struct iommu_hw_info info;
    uint32_t other = bind_smmu_device(0, &info, &unit), length;
    uint32_t table = hwpt_alloc(other, ioas, NEST);

    section("a unit without");
    require_errno(-try_get_hw_info(other, IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV, &unit, 8, &length),
                  EOPNOTSUPP, "GET_HW_INFO");
    require_errno(try_viommu_alloc(other, table, CMDQV, &interface, 16), EOPNOTSUPP,
                  "VIOMMU_ALLOC");
    close(device_fd);
    return table;
}

void find_cmdqv_unit(void)
{
    struct iommu_hw_info_tegra241_cmdqv cmdqv = {0};
    struct iommu_hw_info_arm_smmuv3 unit;
    struct iommu_hw_info info;
    uint32_t length = 0;

    device_id = bind_smmu_device(2, &info, &unit);
    section("what the unit tells");
    require(unit.idr[0] >> 10 & 1, "an SMMUv3 with ATS");
    require(!try_get_hw_info(device_id, IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV, &cmdqv, sizeof(cmdqv),
                             &length) &&
                length == sizeof(cmdqv),
            "asked for CMDQV");
    require(!cmdqv.flags && !cmdqv.__reserved && cmdqv.version == 1, "version 1");
    require(cmdqv.log2vcmdqs == 1 && cmdqv.log2vsids == 4, "2 queues and 16 streams for a guest");
    require_errno(-try_get_hw_info(device_id, IOMMU_HW_INFO_TYPE_INTEL_VTD, &cmdqv, 8, &length),
                  EOPNOTSUPP, "asked for another vendor's");
}

void test_viommu_alloc(uint32_t others_parent)
{
    static uint32_t ids[INTERFACES];
    struct iommu_viommu_tegra241_cmdqv many;
    const void *read_only = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t data[3] = {0};
    int made = 0;

    section("VIOMMU_ALLOC");
    require_errno(try_viommu_alloc(device_id, parent, 3, data, 16), EOPNOTSUPP, "of no type");
    require_errno(try_viommu_alloc(device_id, ioas, CMDQV, data, 16), ENOENT, "on no page table");
    require_errno(try_viommu_alloc(device_id, others_parent, CMDQV, data, 0), EINVAL,
                  "on another unit's");
    require_errno(try_viommu_alloc(device_id, parent, CMDQV, NULL, 0), EINVAL, "without data");
    require_errno(try_viommu_alloc(device_id, parent, CMDQV, data, 8), EINVAL,
                  "data without the length");
    require_errno(try_viommu_alloc(device_id, parent, CMDQV, data, 24), EINVAL,
                  "longer data, even of zeros");
    require_errno(try_viommu_alloc(device_id, parent, CMDQV, (void *)unmapped_address, 16), EFAULT,
                  "data that cannot be read");
    require_errno(try_viommu_alloc(device_id, parent, CMDQV, (void *)(uintptr_t)read_only, 16),
                  EFAULT, "nor written");
    interface.out_vintf_mmap_offset = 77;
    viommu = (uint32_t)try_viommu_alloc(device_id, parent, CMDQV, &interface, sizeof(interface));
    require((int32_t)viommu > 0, "one");
    require(interface.out_vintf_mmap_offset == PAGE, "its page: the first of all");
    require(interface.out_vintf_mmap_length == VINTF_LENGTH, "64 KiB of it");
    for (long id; made != INTERFACES; ids[made++] = (uint32_t)id) {
        id = try_viommu_alloc(device_id, parent, CMDQV, &many, sizeof(many));
        if (id < 0)
            break;
        if (many.out_vintf_mmap_offset != PAGE + (made + 1) * (uint64_t)VINTF_LENGTH)
            exit(1);
    }
    require(made == INTERFACES - 1, "%d more", made);
    require_errno(try_viommu_alloc(device_id, parent, CMDQV, data, 16), ENOSPC, "and no other");
    require_errno(try_viommu_alloc(device_id, others_parent, CMDQV, data, 16), EINVAL,
                  "on another unit's");
    require(try_viommu_alloc(device_id, parent, SMMUV3, NULL, 0) > 0,
            "but one without an interface");
    while (made)
        if (try_destroy(ids[--made]))
            exit(1);
    require(true, "all gone");
}

void test_vdevice_alloc(void)
{
    long name;

    section("VDEVICE_ALLOC");
    require_errno(try_vdevice_alloc(1 << 20), EINVAL, "a stream of 21 bits");
    require_errno(try_vdevice_alloc(~0ULL), EINVAL, "and of 64");
    name = try_vdevice_alloc(0xfffff);
    require(name > 0, "one of 20");
    require_errno(try_vdevice_alloc(7), EEXIST, "a second name");
    require(!try_destroy((uint32_t)name) && try_vdevice_alloc(VIRTUAL_STREAM) > 0,
            "another instead");
}

void test_hw_queue_alloc(void)
{
    uint32_t plain = (uint32_t)try_viommu_alloc(device_id, parent, SMMUV3, NULL, 0);
    uint64_t base = rings[0];
    long id;

    section("HW_QUEUE_ALLOC");
    require_errno(try_hw_queue_alloc(viommu, 0, 0, base, PAGE), EOPNOTSUPP, "of type 0");
    require_errno(try_hw_queue_alloc(viommu, 2, 0, base, PAGE), EOPNOTSUPP, "of type 2");
    require_errno(try_hw_queue_alloc(viommu, QUEUE, 0, base, 0), EINVAL, "of no length");
    require_errno(try_hw_queue_alloc(viommu, QUEUE, 0, ~0ULL, 2), EOVERFLOW,
                  "beyond all addresses");
    require_errno(try_hw_queue_alloc(device_id, QUEUE, 0, base, PAGE), ENOENT, "on no vIOMMU");
    require_errno(try_hw_queue_alloc(plain, QUEUE, 0, base, PAGE), EOPNOTSUPP,
                  "on one without an interface");
    require_errno(try_hw_queue_alloc(viommu, QUEUE, 9, GUEST_BASE - PAGE, 48), ENOENT,
                  "where no memory is");
    require_errno(try_hw_queue_alloc(viommu, QUEUE, 2, base, 48), EINVAL, "a third");
    require_errno(try_hw_queue_alloc(viommu, QUEUE, 1, base, 48), EIO,
                  "the second without the first");
    require_errno(try_hw_queue_alloc(viommu, QUEUE, 0, base, 16), EINVAL, "of one command");
    require_errno(try_hw_queue_alloc(viommu, QUEUE, 0, base, 48), EINVAL, "of three");
    require_errno(try_hw_queue_alloc(viommu, QUEUE, 0, GUEST_BASE, 1 << 20), EINVAL,
                  "of more than IDR1.CMDQS");
    require_errno(try_hw_queue_alloc(viommu, QUEUE, 0, base + 32, 64), EINVAL,
                  "not at a multiple of its length");
    require_errno(try_hw_queue_alloc(viommu, QUEUE, 0, base + 8, 32), EINVAL, "nor of 32");
    id = try_hw_queue_alloc(viommu, QUEUE, 0, base + 32, 32);
    require(id > 0, "the shortest");
    require_errno(try_hw_queue_alloc(viommu, QUEUE, 0, base + 1, 48), EEXIST, "once more");
    require(!try_destroy((uint32_t)id), "destroyed");
    for (unsigned i = 0; i != 2; i++) {
        queue_ids[i] = (uint32_t)try_hw_queue_alloc(viommu, QUEUE, i, rings[i], PAGE);
        require((int32_t)queue_ids[i] > 0, "queue %u", i);
    }
    require_errno(-try_destroy(queue_ids[0]), EBUSY, "the first goes last");
    require_errno(-try_destroy(viommu), EBUSY, "and the vIOMMU after it");
    require_errno(unmap(ioas, GUEST_BASE, GUEST_PAGES * PAGE) ? -errno : 0, EBUSY,
                  "the memory is pinned");
}

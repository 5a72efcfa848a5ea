/* SPDX-License-Identifier: Apache-2.0 */
/* HWPTs, dirty tracking and invalidation. */
#include "steps.h"

void do_hwpt_alloc(void)
{
    struct iommu_hwpt_selftest data = {.iotlb = 7, .pagetable_type = chance(8)};
    struct iommu_hwpt_alloc cmd = {.size = sizeof(cmd), .dev_id = some_id(IDEV)};
    enum kind kind = HWPT;

    fill_guarded(&data_memory, 0);
    switch (below(5)) {
    case 0:
        cmd.pt_id = some_id(IOAS);
        cmd.flags = NEST * (below(2) == 0);
        cmd.flags |= TRACK * below(2);
        cmd.flags |= PASID * below(2);
        kind = PARENT;
        break;
    case 1:
        cmd.pt_id = some_id(IOAS);
        cmd.flags = TRACK * below(2);
        cmd.flags |= FAULTS * below(2);
        cmd.flags |= PASID * below(2);
        break;
    default:
        cmd.pt_id = some_id(below(2) ? PARENT : VIOMMU);
        cmd.flags = PASID * (below(4) != 0);
        cmd.flags |= FAULTS * below(2);
        cmd.data_type = IOMMU_HWPT_DATA_SELFTEST;
        kind = NESTED;
    }
    if (kind != NESTED && chance(25))
        cmd.data_type = IOMMU_HWPT_DATA_SELFTEST;
    if (cmd.data_type) {
        cmd.data_len = chance(10) ? below(40) : sizeof(data);
        cmd.data_uptr = some_data(&data, sizeof(data));
    }
    if (cmd.flags & FAULTS)
        cmd.fault_id = some_id(FAULT);
    if (!ANSWERED(call(&HWPT_ALLOC, &cmd), struct iommu_hwpt_alloc, out_hwpt_id))
        return;
    remember_id(kind, cmd.out_hwpt_id);
    if (cmd.flags & FAULTS)
        remember_id(FAULTY, cmd.out_hwpt_id);
    if (cmd.flags & TRACK)
        remember_id(TRACKED, cmd.out_hwpt_id);
}

/** Allocates a nesting parent, on which vIOMMUs and most nested HWPTs are allocated. */
void do_parent(void)
{
    struct iommu_hwpt_alloc cmd = {.size = sizeof(cmd)};

    cmd.flags = NEST + PASID * below(2);
    cmd.dev_id = some_id(IDEV);
    cmd.pt_id = some_id(IOAS);
    if (ANSWERED(call(&HWPT_ALLOC, &cmd), struct iommu_hwpt_alloc, out_hwpt_id))
        remember_id(PARENT, cmd.out_hwpt_id);
}

void do_hw_info(void)
{
    struct iommu_hw_info cmd = {.size = sizeof(cmd)};

    cmd.dev_id = some_id(IDEV);
    cmd.data_len = below(2) ? sizeof(struct iommu_test_hw_info) : below(40);
    cmd.data_uptr = some_output();
    if (chance(40)) {
        cmd.flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE;
        cmd.in_data_type = below(2) ? IOMMU_HW_INFO_TYPE_SELFTEST : below(3);
    }
    call(&GET_HW_INFO, &cmd);
}

void do_tracking(void)
{
    struct iommu_hwpt_set_dirty_tracking cmd = {.size = sizeof(cmd)};

    cmd.flags = below(5) != 0;
    cmd.hwpt_id = some_id(below(5) ? TRACKED : HWPT);
    call(&HWPT_SET_DIRTY_TRACKING, &cmd);
}

void do_dirty_bitmap(void)
{
    static const uint64_t sizes[] = {0x800, 0x800, PAGE, PAGE, 2 * PAGE, 16 * PAGE};
    struct iommu_hwpt_get_dirty_bitmap cmd = {.size = sizeof(cmd)};

    cmd.hwpt_id = some_id(below(5) ? TRACKED : HWPT);
    cmd.flags = below(3) == 0;
    cmd.iova = MOCK_START + below(8) * PAGE;
    cmd.length = (1 + below(16)) * PAGE;
    cmd.page_size = sizes[below(COUNT(sizes))];
    if (large)
        return;
    fill_guarded(&data_memory, 0);
    if (cmd.page_size > PAGE && chance(70)) {
        cmd.iova = MOCK_START;
        cmd.length = 16 * PAGE * (1 + below(3));
    }
    cmd.data = some_output_address(20, 8);
    call(&HWPT_GET_DIRTY_BITMAP, &cmd);
}

void do_dirty(void)
{
    struct iommu_test_cmd cmd =
        test_command(IOMMU_TEST_OP_DIRTY, some_id(below(5) ? TRACKED : HWPT));
    uint64_t bits = random_next();

    bits &= random_next();
    fill_guarded(&data_memory, 0);
    cmd.dirty.iova = MOCK_START + below(8) * PAGE;
    cmd.dirty.length = (1 + below(16)) * PAGE;
    cmd.dirty.page_size = below(2) ? 0x800 : PAGE;
    cmd.dirty.uptr = some_data(&bits, sizeof(bits));
    printf("bits %llx:\n", (unsigned long long)bits);
    call(&DIRTY, &cmd);
}

/** Returns the number of one of the four IOTLB or device cache entries, seldom another number. */
static uint32_t some_entry(void)
{
    uint32_t number = below(4);

    return number + chance(10);
}

void do_invalidate(void)
{
    static uint32_t entries[16][4];
    bool viommu = below(2);
    struct iommu_hwpt_invalidate cmd = {.size = sizeof(cmd),
                                        .data_type = IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
                                        .entry_len = viommu ? 12 : 8};
    unsigned char packed[16 * 16] = {0};

    cmd.hwpt_id = some_id(viommu ? VIOMMU : NESTED);
    cmd.entry_num = below(5);
    if (chance(12)) {
        cmd.entry_len = 4 * below(5);
        cmd.entry_len += chance(20);
    }
    if (chance(4))
        cmd.entry_num = 1 << below(21);
    if (chance(4))
        cmd.data_type = IOMMU_HWPT_INVALIDATE_DATA_SELFTEST_INVALID;
    for (unsigned i = 0; i != COUNT(entries); i++) {
        entries[i][0] = chance(12) ? below(3) : 0;
        entries[i][1] = viommu ? 0x50 + below(3) : some_entry();
        entries[i][2] = viommu ? some_entry() : chance(10);
        entries[i][3] = chance(10);
        if (cmd.entry_len <= 16)
            memcpy(packed + i * cmd.entry_len, entries[i], cmd.entry_len);
    }
    fill_guarded(&data_memory, 0);
    cmd.data_uptr = some_data(packed, sizeof(packed));
    printf("entries");
    for (unsigned i = 0; i != 4; i++)
        printf(" %u,%#x,%u,%u", entries[i][0], entries[i][1], entries[i][2], entries[i][3]);
    printf(":\n");
    call(&HWPT_INVALIDATE, &cmd);
}

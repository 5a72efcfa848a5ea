/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device with ATS behind an SMMUv3: the translations in its ATC until a guest's CMD_ATC_INV, with
 * and without PASID; the order of the two invalidations; and the ATC with the kernel's own page
 * tables. The first requirement that is not met ends the client with status 1.
 */
#include "smmu/smmu_driver.h"

static const uint64_t HERE = 0x12345000;
enum { EATS = 1 << 28, OTHER = 5 };

static uint64_t roots[2], pages[5];

/**
 * Maps HERE to pages[number] in both address spaces, and invalidates the translations of the unit.
 */
static void map_version(unsigned number)
{
    for (unsigned i = 0; i != 2; i++)
        map_4k(roots[i], HERE, pages[number], LEAF);
    send_command(tlbi(NH_ALL, 0, 0));
}

static struct iommu_hwpt_arm_smmuv3 stage1_entry_with(bool has_ats)
{
    struct iommu_hwpt_arm_smmuv3 made = stream_entry(STE_STAGE1, cd_table, 6, 0, 2);

    if (has_ats)
        made.ste[1] |= EATS;
    return made;
}

static void test_stale_translations(void)
{
    section("what the device keeps");
    attach_entry(stage1_entry_with(true));
    require_byte(NO_SUBSTREAM, HERE, 0x41, "a page");
    require_byte(OTHER, HERE, 0x41, "and by PASID");
    map_version(1);
    require_byte(NO_SUBSTREAM, HERE, 0x41, "the unit has forgotten it, the device has not");
    require_byte(OTHER, HERE, 0x41, "nor by PASID");
    send_command(atc_invalidate(VIRTUAL_STREAM, OTHER, HERE + PAGE, 0));
    send_command(atc_invalidate(VIRTUAL_STREAM, OTHER + 1, HERE, 0));
    require_byte(OTHER, HERE, 0x41, "another page, another PASID");
    send_command(atc_invalidate(VIRTUAL_STREAM, OTHER, HERE, 0));
    require_byte(OTHER, HERE, 0x42, "that page of that PASID: the new one");
    require_byte(NO_SUBSTREAM, HERE, 0x41, "without PASID the old one");
    map_version(2);
    send_command(atc_invalidate(VIRTUAL_STREAM, NO_SUBSTREAM, HERE + PAGE, 0));
    require_byte(NO_SUBSTREAM, HERE, 0x41, "another page without PASID: the old one");
    require_byte(OTHER, HERE, 0x43, "but everything by PASID is forgotten");
    send_command(atc_invalidate(VIRTUAL_STREAM, NO_SUBSTREAM, HERE, 0));
    require_byte(NO_SUBSTREAM, HERE, 0x43, "that page without PASID");
}

static void test_order_and_sizes(void)
{
    section("order and sizes");
    for (unsigned i = 0; i != 2; i++)
        map_4k(roots[i], HERE, pages[3], LEAF);
    send_command(atc_invalidate(VIRTUAL_STREAM, NO_SUBSTREAM, HERE, 0));
    require_byte(NO_SUBSTREAM, HERE, 0x43,
                 "the device first: it asks, and the unit has the old one");
    send_command(tlbi(NH_ASID, 1, 0));
    require_byte(NO_SUBSTREAM, HERE, 0x43, "then the unit: the device has the old one");
    send_command(atc_invalidate(VIRTUAL_STREAM, NO_SUBSTREAM, HERE, 0));
    require_byte(NO_SUBSTREAM, HERE, 0x44, "the device last");
    map_version(4);
    send_command(atc_invalidate(VIRTUAL_STREAM, NO_SUBSTREAM, HERE ^ 2 * PAGE, 1));
    require_byte(NO_SUBSTREAM, HERE, 0x44, "two pages beside it");
    send_command(atc_invalidate(VIRTUAL_STREAM, NO_SUBSTREAM, HERE & ~(4 * PAGE - 1), 2));
    require_byte(NO_SUBSTREAM, HERE, 0x45, "four pages around it");
    map_version(0);
    send_command(atc_invalidate(VIRTUAL_STREAM, NO_SUBSTREAM, 0, 52));
    require_byte(NO_SUBSTREAM, HERE, 0x41, "everything");
    require_refused(atc_invalidate(VIRTUAL_STREAM, NO_SUBSTREAM, 0, 53), "more than everything");
    require_refused(atc_invalidate(VIRTUAL_STREAM + 1, NO_SUBSTREAM, HERE, 0),
                    "a stream that the guest does not have");
}

static void test_denials(void)
{
    section("what is not there");
    *stage1_entry(roots[0], HERE, 3) = 0;
    send_command(tlbi(NH_ALL, 0, 0));
    require_byte(NO_SUBSTREAM, HERE, 0x41, "unmapped: the device has it");
    send_command(atc_invalidate(VIRTUAL_STREAM, NO_SUBSTREAM, HERE, 0));
    require_byte(NO_SUBSTREAM, HERE, -DENIED, "forgotten: an answer, not a fault");
    map_4k(roots[0], HERE, pages[1], LEAF | PTE_READ_ONLY);
    require_byte(NO_SUBSTREAM, HERE, 0x42, "mapped: nobody keeps that nothing was there");
    require(run_dma(DMA_WRITE, NO_SUBSTREAM, HERE, 64) == DENIED, "it is not written");
    attach_entry(stage1_entry_with(false));
    require_byte(NO_SUBSTREAM, HERE, 0x42, "an entry without EATS: the unit translates");
    require(run_dma(DMA_WRITE, NO_SUBSTREAM, HERE, 64) == FAULTED,
            "and what is not allowed is a fault");
}

static void test_kernel_tables(void)
{
    uint32_t table;

    section("the kernel's own tables");
    table = hwpt_alloc(device_id, ioas, 0);
    require(table && !attach_table(table), "attached");
    map(ioas, (uintptr_t)guest_at(pages[0]), PAGE, FIXED | R | W, HERE);
    require(run_dma(DMA_READ, NO_SUBSTREAM, HERE, 64) == COMPLETED, "a page is read");
    unmap(ioas, HERE, PAGE);
    require(run_dma(DMA_READ, NO_SUBSTREAM, HERE, 64) == DENIED,
            "unmapped: the device has forgotten it");
    require(run_dma(DMA_READ, NO_SUBSTREAM, pages[1], 64) == COMPLETED, "another is read");
}

int main(void)
{
    struct iommu_hw_info_arm_smmuv3 unit;
    struct iommu_hw_info info;

    begin("a device that translates for itself");
    device_id = bind_smmu_device(2, &info, &unit);
    require(unit.idr[0] >> 10 & 1, "the unit has ATS");
    require(!(info.out_capabilities & IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED), "and so has the device");
    ioas = ioas_alloc();
    make_smmu_guest_memory(ioas, false);
    parent = hwpt_alloc(device_id, ioas, NEST);
    viommu = viommu_alloc(device_id, parent, SMMUV3, NULL, 0);
    vdevice_alloc(viommu, device_id, VIRTUAL_STREAM);
    readback_page = allocate_pages(1);
    cd_table = allocate_pages(1);
    for (unsigned i = 0; i != 5; i++)
        pages[i] = allocate_filled_page(0x41 + (int)i);
    for (unsigned i = 0; i != 2; i++) {
        roots[i] = allocate_address_space();
        map_4k(roots[i], HERE, pages[0], LEAF);
        write_context_descriptor(i * OTHER, context_descriptor(roots[i], (uint16_t)(i + 1)));
    }
    test_stale_translations();
    test_order_and_sizes();
    test_denials();
    test_kernel_tables();
    return 0;
}

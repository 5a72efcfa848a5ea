/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device behind an SMMUv3 that translates for itself (ATS): what it keeps until the guest's
 * CMD_ATC_INV, with and without PASID, in which order, and what the kernel's own tables do about it.
 * Every expectation is checked here; the first that fails ends the client with status 1.
 */
#include "smmu/smmu_driver.h"

static const uint64_t HERE = 0x12345000;
enum { EATS = 1 << 28, OTHER = 5 };

static uint64_t roots[2], pages[5];

/** Both spaces have page `number` there, and the unit knows. */
static void turn(unsigned number)
{
    for (unsigned i = 0; i != 2; i++)
        map_page(roots[i], HERE, pages[number], LEAF);
    command(tlbi(NH_ALL, 0, 0));
}

static struct iommu_hwpt_arm_smmuv3 entry(bool allows)
{
    struct iommu_hwpt_arm_smmuv3 made = stream_entry(STE_STAGE1, descriptors, 6, 0, 2);

    if (allows)
        made.ste[1] |= EATS;
    return made;
}

static void staleness(void)
{
    section("what the device keeps");
    attach_entry(entry(true));
    check_seen(PLAIN, HERE, 0x41, "a page");
    check_seen(OTHER, HERE, 0x41, "and by PASID");
    turn(1);
    check_seen(PLAIN, HERE, 0x41, "the unit has forgotten it, the device has not");
    check_seen(OTHER, HERE, 0x41, "nor by PASID");
    command(atc_invalidate(VIRTUAL_STREAM, OTHER, HERE + PAGE, 0));
    command(atc_invalidate(VIRTUAL_STREAM, OTHER + 1, HERE, 0));
    check_seen(OTHER, HERE, 0x41, "another page, another PASID");
    command(atc_invalidate(VIRTUAL_STREAM, OTHER, HERE, 0));
    check_seen(OTHER, HERE, 0x42, "that page of that PASID: the new one");
    check_seen(PLAIN, HERE, 0x41, "without PASID the old one");
    turn(2);
    command(atc_invalidate(VIRTUAL_STREAM, PLAIN, HERE + PAGE, 0));
    check_seen(PLAIN, HERE, 0x41, "another page without PASID: the old one");
    check_seen(OTHER, HERE, 0x43, "but everything by PASID is forgotten");
    command(atc_invalidate(VIRTUAL_STREAM, PLAIN, HERE, 0));
    check_seen(PLAIN, HERE, 0x43, "that page without PASID");
}

static void order_and_sizes(void)
{
    section("order and sizes");
    for (unsigned i = 0; i != 2; i++)
        map_page(roots[i], HERE, pages[3], LEAF);
    command(atc_invalidate(VIRTUAL_STREAM, PLAIN, HERE, 0));
    check_seen(PLAIN, HERE, 0x43, "the device first: it asks, and the unit has the old one");
    command(tlbi(NH_ASID, 1, 0));
    check_seen(PLAIN, HERE, 0x43, "then the unit: the device has the old one");
    command(atc_invalidate(VIRTUAL_STREAM, PLAIN, HERE, 0));
    check_seen(PLAIN, HERE, 0x44, "the device last");
    turn(4);
    command(atc_invalidate(VIRTUAL_STREAM, PLAIN, HERE ^ 2 * PAGE, 1));
    check_seen(PLAIN, HERE, 0x44, "two pages beside it");
    command(atc_invalidate(VIRTUAL_STREAM, PLAIN, HERE & ~(4 * PAGE - 1), 2));
    check_seen(PLAIN, HERE, 0x45, "four pages around it");
    turn(0);
    command(atc_invalidate(VIRTUAL_STREAM, PLAIN, 0, 52));
    check_seen(PLAIN, HERE, 0x41, "everything");
    check_refused(atc_invalidate(VIRTUAL_STREAM, PLAIN, 0, 53), "more than everything");
    check_refused(atc_invalidate(VIRTUAL_STREAM + 1, PLAIN, HERE, 0),
                  "a stream that the guest does not have");
}

static void denials(void)
{
    section("what is not there");
    *entry_of(roots[0], HERE, 3) = 0;
    command(tlbi(NH_ALL, 0, 0));
    check_seen(PLAIN, HERE, 0x41, "unmapped: the device has it");
    command(atc_invalidate(VIRTUAL_STREAM, PLAIN, HERE, 0));
    check_seen(PLAIN, HERE, -DENIED, "forgotten: an answer, not a fault");
    map_page(roots[0], HERE, pages[1], LEAF | PTE_READ_ONLY);
    check_seen(PLAIN, HERE, 0x42, "mapped: nobody keeps that nothing was there");
    check(copy_by(COPY_OUT, PLAIN, HERE, 64) == DENIED, "it is not written");
    attach_entry(entry(false));
    check_seen(PLAIN, HERE, 0x42, "an entry without EATS: the unit translates");
    check(copy_by(COPY_OUT, PLAIN, HERE, 64) == FAULTED, "and what is not allowed is a fault");
}

static void kernel_tables(void)
{
    uint32_t table;

    section("the kernel's own tables");
    table = hwpt_alloc(device_id, ioas, 0);
    check(table && !attach_to(table), "attached");
    map(ioas, (uintptr_t)at(pages[0]), PAGE, FIXED | R | W, HERE);
    check(copy_by(COPY_IN, PLAIN, HERE, 64) == COMPLETED, "a page is read");
    unmap(ioas, HERE, PAGE);
    check(copy_by(COPY_IN, PLAIN, HERE, 64) == DENIED, "unmapped: the device has forgotten it");
    check(copy_by(COPY_IN, PLAIN, pages[1], 64) == COMPLETED, "another is read");
}

int main(void)
{
    struct iommu_hw_info_arm_smmuv3 unit;
    struct iommu_hw_info info;

    begin("a device that translates for itself");
    device_id = bind_device(2, &info, &unit);
    check(unit.idr[0] >> 10 & 1, "the unit has ATS");
    check(!(info.out_capabilities & IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED), "and so has the device");
    ioas = ioas_alloc();
    make_guest_memory(ioas, false);
    parent = hwpt_alloc(device_id, ioas, NEST);
    viommu = viommu_alloc(device_id, parent, SMMUV3, NULL, 0);
    vdevice_alloc(viommu, device_id, VIRTUAL_STREAM);
    mirror = take_pages(1);
    descriptors = take_pages(1);
    for (unsigned i = 0; i != 5; i++)
        pages[i] = page_of(0x41 + (int)i);
    for (unsigned i = 0; i != 2; i++) {
        roots[i] = new_space();
        map_page(roots[i], HERE, pages[0], LEAF);
        set_context(i * OTHER, context(roots[i], (uint16_t)(i + 1)));
    }
    staleness();
    order_and_sizes();
    denials();
    kernel_tables();
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty tracking of a VT-d unit: pages that are written through a second-stage table, and pages
 * that a nested guest's device writes, or that hold the guest's first-stage table, in which the
 * unit sets bits.
 */
#include "guest/vtd.h"

#define IOVA 0x7000000000UL

static struct guest guest;
static struct test_device device;

static long track(uint32_t hwpt, bool enable)
{
    struct iommu_hwpt_set_dirty_tracking cmd = {
        .size = sizeof(cmd),
        .hwpt_id = hwpt,
        .flags = enable ? IOMMU_HWPT_DIRTY_TRACKING_ENABLE : 0};

    return ioctl(guest.iommufd, IOMMU_HWPT_SET_DIRTY_TRACKING, &cmd);
}

/** Returns which of the 64 pages at `pages` are dirty, a bit for each. */
static uint64_t dirty(uint32_t hwpt, uint64_t pages, uint32_t flags)
{
    uint64_t bitmap = 0;
    struct iommu_hwpt_get_dirty_bitmap cmd = {.size = sizeof(cmd),
                                              .hwpt_id = hwpt,
                                              .flags = flags,
                                              .iova = pages,
                                              .length = 64 * PAGE,
                                              .page_size = PAGE,
                                              .data = (uintptr_t)&bitmap};

    if (ioctl(guest.iommufd, IOMMU_HWPT_GET_DIRTY_BITMAP, &cmd))
        fatal("GET_DIRTY_BITMAP: %s", strerror(errno));
    return bitmap;
}

/** The unit maps pages of 4 KiB, because user addresses and IOVAs are not aligned alike. */
static void test_kernel_table(void)
{
    uint32_t hwpt =
        allocate_paging(&guest, &device, IOMMU_HWPT_ALLOC_DIRTY_TRACKING | IOMMU_HWPT_ALLOC_PASID);
    uint32_t plain = allocate_paging(&guest, &device, IOMMU_HWPT_ALLOC_PASID);

    section("a table of ours");
    check_errno(track(plain, true), EOPNOTSUPP, "one that was not made for it");
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "attached");
    dma_write(&device, data_page(0), 8, NO_PASID);
    check_number(dirty(hwpt, GUEST + DATA, 0), 0, "nothing is recorded yet");
    check_errno(track(hwpt, true), 0, "from now on");
    check_number(dirty(hwpt, GUEST + DATA, 0), 0, "nothing was written yet");
    dma_read(&device, data_page(1), 8, NO_PASID);
    check_number(dirty(hwpt, GUEST + DATA, 0), 0, "reading is not writing");
    dma_write(&device, data_page(1), 8, NO_PASID);
    dma_write(&device, data_page(3), 8, NO_PASID);
    check_number(dirty(hwpt, GUEST + DATA, IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR), 0x0a,
                 "two pages were written");
    check_number(dirty(hwpt, GUEST + DATA, 0), 0x0a, "they still were");
    check_number(dirty(hwpt, GUEST + DATA, 0), 0, "and are not any more");
    dma_write(&device, data_page(3), 8, NO_PASID);
    check_number(dirty(hwpt, GUEST + DATA, 0), 0x08, "written again");
    dma_write(&device, data_page(4), 8, NO_PASID);
    check_errno(track(hwpt, false), 0, "no more");
    dma_write(&device, data_page(5), 8, NO_PASID);
    check_number(dirty(hwpt, GUEST + DATA, 0), 0x10, "what was recorded is still there");
    check_errno(track(hwpt, true), 0, "once more");
    check_errno(attach_to(&device, hwpt, PASID(5)), 0, "a PASID that comes later");
    dma_write(&device, data_page(6), 8, PASID(5));
    check_number(dirty(hwpt, GUEST + DATA, 0), 0x40, "is recorded, too");
    detach(&device, PASID(5));
    detach(&device, NO_PASID);
    destroy_object(guest.iommufd, hwpt);
    destroy_object(guest.iommufd, plain);
}

static void test_nested_table(void)
{
    uint64_t root = allocate_table(&guest), table;
    uint32_t hwpt = vtd_make_nested(&guest, &device, root), parent = guest.parent;

    section("a guest on a table of ours");
    for (unsigned i = 0; i != 8; i++)
        map_page(&guest, root, IOVA + i * PAGE, data_page(i), USER);
    table = *entry_at(&guest, root, IOVA, 1) & 0xffffffffff000UL;
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "attached");
    check_errno(track(hwpt, true), ENOENT, "a nested table has none");
    dma_write(&device, IOVA, 8, NO_PASID);
    check_errno(track(parent, true), 0, "its parent has");
    check_number(dirty(parent, GUEST + DATA, 0), 0, "nothing was written yet");
    dma_write(&device, IOVA, 8, NO_PASID);
    check_number(dirty(parent, GUEST + DATA, 0), 0x01, "a page is written");
    check_number(dirty(parent, GUEST, 0), 0, "its entry said so before");
    dma_write(&device, IOVA + 2 * PAGE, 8, NO_PASID);
    check_number(dirty(parent, GUEST + DATA, 0), 0x04, "a page is written for the first time");
    check_number(dirty(parent, GUEST, 0), 1UL << (table - GUEST) / PAGE,
                 "so is the table that says so");
    dma_write(&device, IOVA, 8, NO_PASID);
    dma_write(&device, IOVA + 2 * PAGE, 8, NO_PASID);
    check_number(dirty(parent, GUEST + DATA, 0), 0x05, "cached translations record again");
    check_errno(attach_to(&device, hwpt, PASID(5)), 0, "a PASID that comes later");
    dma_write(&device, IOVA + 2 * PAGE, 8, PASID(5));
    check_number(dirty(parent, GUEST + DATA, 0), 0x04, "is recorded, too");
    check_errno(track(parent, false), 0, "no more");
    dma_write(&device, IOVA, 8, NO_PASID);
    check_number(dirty(parent, GUEST + DATA, 0), 0, "nothing is recorded");
    detach(&device, PASID(5));
    detach(&device, NO_PASID);
    destroy_object(guest.iommufd, hwpt);
}

int main(void)
{
    int iommufd = open_iommufd();

    device = vtd_find_device(iommufd, false);
    guest = vtd_make_guest(iommufd, &device, true, IOMMU_HWPT_ALLOC_DIRTY_TRACKING);
    test_kernel_table();
    test_nested_table();
    return checks_exit_status();
}

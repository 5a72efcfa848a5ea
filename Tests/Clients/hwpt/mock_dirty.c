/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty tracking: which devices have it, what a bit covers, and which arguments are checked.
 * Page-table entries map system pages here, because huge pages are disabled; a system page is two
 * pages of the mock IOMMU.
 */
#include "mock/mock.h"

enum { KEEP = IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR, ON = IOMMU_HWPT_DIRTY_TRACKING_ENABLE };

static struct {
    unsigned char before[64], bits[64], after[64];
} bitmaps;

static void show(uint32_t hwpt, uint32_t flags, uint64_t iova, uint64_t length, uint64_t page_size)
{
    memset(&bitmaps, 0, sizeof(bitmaps));
    watch("bitmaps", &bitmaps, sizeof(bitmaps));
    get_dirty_bitmap(hwpt, flags, iova, length, page_size, bitmaps.bits);
    unwatch("bitmaps");
}

static void dirty_bits(uint32_t hwpt, uint64_t iova, uint64_t length, uint8_t bits)
{
    static unsigned char bitmap[64];

    name_region("set", bitmap, sizeof(bitmap));
    printf("bits %#x:\n", bits);
    bitmap[0] = bits;
    make_dirty(hwpt, iova, length, 2048, bitmap);
}

static void test_capabilities(void)
{
    static unsigned char info[24];
    struct mock_device device, without, wide;
    uint32_t ioas = ioas_alloc(), hwpt;

    mock_domain(ioas, &device);
    mock_domain_flags(ioas, MOCK_FLAGS_DEVICE_NO_DIRTY, &without);
    mock_domain_flags(ioas, MOCK_FLAGS_DEVICE_PASID, &wide);
    watch("info", info, sizeof(info));
    for (uint32_t length = 0; length <= sizeof(info); length += length < 8 ? 4 : 16) {
        memset(info, 0xa5, sizeof(info));
        get_hw_info(device.idev, 0, 0, info, length);
    }
    get_hw_info(without.idev, 0, 0, info, 8);
    get_hw_info(wide.idev, 0, 77, info, 8);
    get_hw_info(wide.idev, 1, 77, info, 8);
    get_hw_info(wide.idev, 1, IOMMU_HW_INFO_TYPE_SELFTEST, info, 8);
    get_hw_info(wide.idev, 2, 0, info, 8);
    get_hw_info(wide.stdev, 0, 0, info, 8);
    get_hw_info(wide.idev, 0, 0, NULL, 0);
    get_hw_info(wide.idev, 0, 0, NULL, 1);
    unwatch("info");
    section("only some tables, only some devices");
    hwpt = hwpt_alloc(without.idev, ioas, TRACK);
    hwpt = hwpt_alloc(device.idev, ioas, TRACK);
    mock_replace(without.stdev, hwpt);
    mock_replace(wide.stdev, hwpt);
    set_dirty_tracking(hwpt, 2);
    set_dirty_tracking(device.hwpt, ON);
    set_dirty_tracking(ioas, ON);
    set_dirty_tracking(hwpt, ON);
    set_dirty_tracking(hwpt, 0);
    set_dirty_tracking(hwpt, 0);
}

static void test_bits(void)
{
    struct mock_device device;
    uint32_t ioas = ioas_alloc(), hwpt, plain;

    option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, ioas, 0);
    mock_domain(ioas, &device);
    map(ioas, (uintptr_t)buffer, 16 * PAGE, FIXED | R | W, MOCK_START);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R, MOCK_START + 32 * PAGE);
    hwpt = hwpt_alloc(device.idev, ioas, TRACK);
    plain = hwpt_alloc(device.idev, ioas, 0);
    section("making bits dirty");
    dirty_bits(hwpt, MOCK_START, 16384, 1);
    set_dirty_tracking(hwpt, ON);
    dirty_bits(plain, MOCK_START, 16384, 1);
    dirty_bits(99, MOCK_START, 16384, 1);
    dirty_bits(hwpt, MOCK_START + 1, 16384, 1);
    dirty_bits(hwpt, MOCK_START, 16383, 1);
    dirty_bits(hwpt, MOCK_START, 0, 1);
    make_dirty(hwpt, MOCK_START, 16384, 0, buffer);
    make_dirty(hwpt, MOCK_START, 16384, 2048, NULL);
    make_dirty(hwpt, MOCK_START, 16384, 2048, (void *)8);
    make_dirty(hwpt, 0, 1ull << 40, 1, buffer);
    dirty_bits(hwpt, MOCK_START, 16384, 0x81);
    section("an entry is dirty as a whole");
    show(hwpt, KEEP, MOCK_START, 16 * PAGE, 2048);
    show(hwpt, KEEP, MOCK_START, 16 * PAGE, 4096);
    show(hwpt, KEEP, MOCK_START, 16 * PAGE, 8192);
    show(hwpt, 0, MOCK_START, 2 * PAGE, 2048);
    show(hwpt, 0, MOCK_START, 16 * PAGE, 2048);
    show(hwpt, 0, MOCK_START, 16 * PAGE, 2048);
    section("not mapped, or not writable");
    dirty_bits(hwpt, MOCK_START + 20 * PAGE, 16384, 0xff);
    dirty_bits(hwpt, MOCK_START + 32 * PAGE, 16384, 0xff);
    show(hwpt, KEEP, MOCK_START + 32 * PAGE, PAGE, 2048);
    show(hwpt, KEEP, MOCK_START, 64 * PAGE, 2048);
    show(hwpt, KEEP, MOCK_START + 16 * PAGE, 32 * PAGE, 2048);
    section("what is checked");
    show(plain, 0, MOCK_START, PAGE, 2048);
    show(ioas, 0, MOCK_START, PAGE, 2048);
    show(hwpt, 2, MOCK_START, PAGE, 2048);
    show(hwpt, 0, MOCK_START, 0, 2048);
    show(hwpt, 0, MOCK_START, PAGE, 0);
    show(hwpt, 0, UINT64_MAX - 4095, 2 * PAGE, 2048);
    show(hwpt, 0, MOCK_START + 2048, PAGE, 2048);
    show(hwpt, 0, MOCK_START, 2048, 2048);
    show(hwpt, 0, MOCK_START + PAGE, PAGE, 8192);
    dirty_bits(hwpt, MOCK_START, 16384, 0x11);
    get_dirty_bitmap(hwpt, KEEP, MOCK_START, 16 * PAGE, 2048, NULL);
    get_dirty_bitmap(hwpt, KEEP, MOCK_START, 16 * PAGE, 2048, (void *)(1ull << 63));
    section("enabling again cleans");
    set_dirty_tracking(hwpt, ON);
    show(hwpt, KEEP, MOCK_START, 16 * PAGE, 2048);
    dirty_bits(hwpt, MOCK_START, 16384, 0x11);
    set_dirty_tracking(hwpt, 0);
    show(hwpt, 0, MOCK_START, 16 * PAGE, 2048);
    show(hwpt, 0, MOCK_START, 16 * PAGE, 2048);
}

int main(void)
{
    part = "mock";
    begin("dirty tracking");
    make_buffer(16);
    memset(buffer, 1, 16 * PAGE);
    test_capabilities();
    reopen("bits");
    test_bits();
    return 0;
}

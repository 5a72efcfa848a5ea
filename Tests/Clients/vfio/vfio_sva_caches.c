/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VFIO_IOMMU_CACHE_INVALIDATE of the extension vfio-sva: devices use old translations until an
 * invalidation, and an invalidation removes the translations that it names and no others.
 */
#include "guest/sva.h"

/** An address whose leaf table, and the table above it, are not those of IOVA. */
#define FAR (IOVA + (1UL << 30))
#define COUNT 6u
/** A mask of all pages at IOVA. */
#define ALL 0x3fu

/** Maps data pages at IOVA, from page `first` on, and page `first` at FAR, in both tables. */
static void point_all(unsigned first)
{
    for (unsigned t = 0; t != 2; t++) {
        for (unsigned i = 0; i != COUNT; i++)
            map_data_page(&guest, roots[t], IOVA + i * PAGE, first + i);
        map_data_page(&guest, roots[t], FAR, first);
    }
}

/** Returns for which of `count` pages at `iova` the device uses the new entry: bit i for page i. */
static unsigned seen_changes(const struct test_device *by, uint32_t pasid, uint64_t iova,
                             unsigned count)
{
    return moved_pages(&guest, by, iova, count, PASID(pasid));
}

/** Changes both tables after both devices have cached all translations. */
static void change_tables(void)
{
    point_all(0);
    if (cache_invalidate(by_domain(IOMMU_CACHE_INV_TYPE_IOTLB)))
        fatal("CACHE_INVALIDATE: %s", strerror(errno));
    for (unsigned d = 0; d != 2; d++) {
        const struct test_device *by = d ? &plain : &device;
        bool is_there = can_read(by, pasids[0], FAR) && can_read(by, pasids[1], IOVA);

        for (unsigned i = 0; i != COUNT; i++)
            is_there &= can_read(by, pasids[0], IOVA + i * PAGE);
        if (!is_there)
            fatal("the pages are not where they were mapped");
    }
    point_all(8);
}

/**
 * Checks which new entries are used after `info`: at IOVA and FAR by the first PASID, at IOVA by
 * the second.
 */
static void check_granule(const char *what, struct iommu_cache_invalidate_info info,
                          unsigned near_pages, unsigned far_pages, unsigned others)
{
    change_tables();
    check_errno(cache_invalidate(info), 0, "%s", what);
    for (unsigned d = 0; d != 2; d++) {
        const struct test_device *by = d ? &plain : &device;
        const char *name = d ? "without a device TLB" : "with a device TLB";

        check_number(seen_changes(by, pasids[0], IOVA, COUNT), near_pages, "%s, %s", what, name);
        check_number(seen_changes(by, pasids[0], FAR, 1), far_pages, "%s, %s: far away", what,
                     name);
        check_number(seen_changes(by, pasids[1], IOVA, 1), others, "%s, %s: another PASID", what,
                     name);
    }
}

static void test_granules(void)
{
    const uint8_t iotlb = IOMMU_CACHE_INV_TYPE_IOTLB, device_tlb = IOMMU_CACHE_INV_TYPE_DEV_IOTLB,
                  pasid_cache = IOMMU_CACHE_INV_TYPE_PASID;
    const uint32_t has_pasid = IOMMU_INV_ADDR_FLAGS_PASID, leaf = IOMMU_INV_ADDR_FLAGS_LEAF;
    uint32_t pasid = pasids[0];

    section("invalidations");
    if (bind_table(pasids[0], roots[0]) || bind_table(pasids[1], roots[1]))
        fatal("VFIO_IOMMU_BIND: %s", strerror(errno));
    change_tables();
    check_number(seen_changes(&device, pasid, IOVA, 1), 0, "without any, what was there is seen");
    check_number(seen_changes(&plain, pasid, FAR, 1), 0, "by both devices");
    check_granule("a page", by_address(iotlb, pasid, IOVA + PAGE, PAGE, 1, has_pasid), 0x02, 0, 0);
    check_granule("a page, leaves only",
                  by_address(iotlb, pasid, IOVA + PAGE, PAGE, 1, has_pasid | leaf), 0x02, 0, 0);
    check_granule("four pages", by_address(iotlb, pasid, IOVA, PAGE, 4, has_pasid), 0x0f, 0, 0);
    check_granule("a granule of four pages", by_address(iotlb, pasid, IOVA, 4 * PAGE, 1, has_pasid),
                  0x0f, 0, 0);
    check_granule("no granule is a page", by_address(iotlb, pasid, IOVA, PAGE, 0, has_pasid), 0x01,
                  0, 0);
    check_granule("2 MiB", by_address(iotlb, pasid, IOVA, 2UL << 20, 1, has_pasid), ALL, 0, 0);
    check_granule("2 GiB", by_address(iotlb, pasid, IOVA, 1UL << 30, 2, has_pasid), ALL, 1, 0);
    check_granule("more than there is", by_address(iotlb, pasid, IOVA, 1UL << 63, 4, has_pasid),
                  ALL, 1, 0);
    check_granule("a page of every PASID", by_address(iotlb, 0, IOVA, PAGE, 1, 0), 0x01, 0, 1);
    check_granule("a PASID", by_pasid(iotlb, pasid), ALL, 1, 0);
    check_granule("the container", by_domain(iotlb), ALL, 1, 1);
    check_granule("the container's PASIDs, too", by_domain(iotlb | pasid_cache), ALL, 1, 1);
    check_granule("a PASID in all caches", by_pasid(iotlb | device_tlb | pasid_cache, pasid), ALL,
                  1, 0);
    check_granule("a page in both caches",
                  by_address(iotlb | device_tlb, pasid, IOVA, PAGE, 1, has_pasid), 0x01, 0, 0);
    check_granule("a page in device TLBs",
                  by_address(device_tlb, pasid, IOVA, PAGE, 1, has_pasid), 0, 0, 0);
    check_granule("a PASID in device TLBs", by_pasid(device_tlb, pasid), 0, 0, 0);
    check_granule("a PASID's entry", by_pasid(pasid_cache, pasid), 0, 0, 0);
    check_granule("every PASID's entry", by_domain(pasid_cache), 0, 0, 0);
    check_granule("no cache", by_pasid(0, pasid), 0, 0, 0);
}

static int invalidate_elsewhere(void)
{
    return cache_invalidate(by_pasid(IOMMU_CACHE_INV_TYPE_IOTLB, pasids[0])) ? errno : 0;
}

static void test_refused_invalidations(void)
{
    const uint8_t iotlb = IOMMU_CACHE_INV_TYPE_IOTLB, device_tlb = IOMMU_CACHE_INV_TYPE_DEV_IOTLB,
                  pasid_cache = IOMMU_CACHE_INV_TYPE_PASID;
    struct iommu_cache_invalidate_info good = by_pasid(iotlb, pasids[0]);
    struct iommu_cache_invalidate_info address =
        by_address(iotlb, pasids[0], IOVA, PAGE, 1, IOMMU_INV_ADDR_FLAGS_PASID);
    uint32_t unbound;

    section("invalidations that are refused");
    change_tables();
    check_errno(cache_invalidate_as(8 + sizeof(good), 1, good), EINVAL, "a flag");
    check_errno(cache_invalidate_as(23, 0, good), EINVAL, "argsz without the information");
    check_errno(cache_invalidate_as(8 + sizeof(good) - 1, 0, good), EINVAL, "argsz short of it");
    CHECK_CHANGED(cache_invalidate, good, .argsz = 15, EINVAL, "the information's argsz");
    CHECK_CHANGED(cache_invalidate, good, .argsz = 31, EINVAL, "argsz short of the PASID");
    CHECK_CHANGED(cache_invalidate, address, .argsz = 55, EINVAL, "argsz short of the addresses");
    CHECK_CHANGED(cache_invalidate, good, .version = 0, EINVAL, "version 0");
    CHECK_CHANGED(cache_invalidate, good, .version = 2, EINVAL, "version 2");
    CHECK_CHANGED(cache_invalidate, good, .cache |= 8, EINVAL, "an unknown cache");
    CHECK_CHANGED(cache_invalidate, good, .granularity = IOMMU_INV_GRANU_NR, EINVAL,
                  "an unknown granularity");
    CHECK_CHANGED(cache_invalidate, good, .padding[0] = 1, EINVAL, "padding that is not zero");
    CHECK_CHANGED(cache_invalidate, good, .granu.pasid_info.flags = 4, EINVAL,
                  "an unknown flag of the PASID's");
    CHECK_CHANGED(cache_invalidate, good, .granu.pasid_info.flags = IOMMU_INV_PASID_FLAGS_ARCHID,
                  EINVAL, "by PASID, without PASID");
    CHECK_CHANGED(cache_invalidate, address, .granu.addr_info.flags = 8, EINVAL,
                  "an unknown flag of the addresses'");
    check_errno(cache_invalidate(by_domain(device_tlb)), EINVAL, "device TLBs of everything");
    CHECK_CHANGED(cache_invalidate, address, .cache = pasid_cache, EINVAL, "PASIDs by address");
    CHECK_CHANGED(cache_invalidate, address, .cache = iotlb | pasid_cache, EINVAL,
                  "both by address");
    CHECK_CHANGED(cache_invalidate, good, .granu.pasid_info.pasid = 0, EINVAL, "PASID 0");
    CHECK_CHANGED(cache_invalidate, good, .granu.pasid_info.pasid = 1UL << 20, EINVAL,
                  "a PASID of 21 bits");
    CHECK_CHANGED(cache_invalidate, good, .granu.pasid_info.pasid = 4711, ENOENT,
                  "a PASID that is not allocated");
    check_number((uint64_t)in_other_process(invalidate_elsewhere), EACCES,
                 "another process's PASID");
    if (allocate_pasid(guest.iommufd, 1, LAST_PASID, &unbound))
        fatal("no PASID");
    CHECK_CHANGED(cache_invalidate, good, .granu.pasid_info.pasid = unbound, EINVAL,
                  "a PASID without a table");
    free_pasid(guest.iommufd, unbound);
    check_number(seen_changes(&device, pasids[0], IOVA, COUNT), 0, "nothing of it took effect");
}

int main(void)
{
    set_up_sva();
    if (set_container(IOMMU_VFIO_IOAS_SET) ||
        ioctl(guest.iommufd, VFIO_SET_IOMMU, VFIO_TYPE1_NESTING_IOMMU))
        fatal("no container: %s", strerror(errno));
    attach_devices();
    test_granules();
    test_refused_invalidations();
    return checks_exit_status();
}

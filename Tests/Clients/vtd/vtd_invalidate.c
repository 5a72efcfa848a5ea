/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The caches of a VT-d unit for a guest's first-stage tables: the unit uses old entries until an
 * invalidation, and an invalidation removes the translations that it names and no others.
 *
 *   vtd_invalidate [--private] [--ats]
 *
 *   --private  the guest's memory is private to the process
 *   --ats      the device has a device TLB
 */
#include "guest/vtd.h"

#define IOVA 0x7000000000UL
/** An address whose leaf table, and the table above it, are not those of IOVA. */
#define FAR (IOVA + (1UL << 30))

static struct guest guest;
static struct test_device device;
static uint64_t root, other_root;
static uint32_t hwpt, other;

static uint64_t at(uint64_t iova) { return read_byte(&guest, &device, iova, NO_PASID); }
static uint64_t in(uint32_t pasid, uint64_t iova)
{
    return read_byte(&guest, &device, iova, PASID(pasid));
}

/** Maps data pages 0 to 7 at IOVA and at FAR, and lets the unit cache the translations. */
static void cache_all(void)
{
    for (unsigned i = 0; i != 8; i++) {
        map_data_page(&guest, root, IOVA + i * PAGE, i);
        map_data_page(&guest, root, FAR + i * PAGE, i);
        map_data_page(&guest, other_root, IOVA + i * PAGE, i);
    }
    vtd_invalidate_all(&guest, hwpt);
    vtd_invalidate_all(&guest, other);
    for (unsigned i = 0; i != 8; i++)
        if (dma_read(&device, IOVA + i * PAGE, 8, NO_PASID) != COMPLETED ||
            dma_read(&device, FAR + i * PAGE, 8, NO_PASID) != COMPLETED ||
            dma_read(&device, IOVA + i * PAGE, 8, PASID(5)) != COMPLETED)
            fatal("the pages are not where they were mapped");
}

/** Maps page i to data page i + 8 after the translations were cached. */
static void change_tables(void)
{
    cache_all();
    for (unsigned i = 0; i != 8; i++) {
        map_data_page(&guest, root, IOVA + i * PAGE, i + 8);
        map_data_page(&guest, root, FAR + i * PAGE, i + 8);
        map_data_page(&guest, other_root, IOVA + i * PAGE, i + 8);
    }
}

/**
 * Returns for which of the eight pages at `iova` the device uses the new entry: bit i for page i.
 */
static unsigned seen_changes(uint64_t iova, uint32_t attributes)
{
    return moved_pages(&guest, &device, iova, 8, attributes);
}

static void expect(const char *what, unsigned near_pages, unsigned far_pages, unsigned by_pasid)
{
    check_number(seen_changes(IOVA, NO_PASID), near_pages, "%s: pages nearby", what);
    check_number(seen_changes(FAR, NO_PASID), far_pages, "%s: pages far away", what);
    check_number(seen_changes(IOVA, PASID(5)), by_pasid, "%s: another table's", what);
}

static void test_granules(void)
{
    static const struct {
        const char *what;
        uint64_t address, pages;
        unsigned near_pages, far_pages;
    } cases[] = {
        {"the first page", IOVA, 1, 0x01, 0},
        {"the last page", IOVA + 7 * PAGE, 1, 0x80, 0},
        {"two pages, aligned", IOVA + 2 * PAGE, 2, 0x0c, 0},
        {"two pages, not aligned: all that share a power of two", IOVA + PAGE, 2, 0x0f, 0},
        {"three pages", IOVA + 4 * PAGE, 3, 0xf0, 0},
        {"eight pages", IOVA, 8, 0xff, 0},
        {"no page at an even number: with the one before", IOVA + 2 * PAGE, 0, 0x0f, 0},
        {"a page beside them", IOVA + 8 * PAGE, 1, 0, 0},
        {"a page far away", FAR, 1, 0, 0x01},
        {"both ends", IOVA, (FAR - IOVA) / PAGE + 8, 0xff, 0xff},
        {"everything", 0, UINT64_MAX, 0xff, 0xff},
        {"no page at address 0: everything", 0, 0, 0xff, 0xff},
    };

    section("granules");
    change_tables();
    expect("nothing", 0, 0, 0);
    for (unsigned i = 0; i != sizeof(cases) / sizeof(*cases); i++) {
        change_tables();
        vtd_invalidate(&guest, hwpt, cases[i].address, cases[i].pages, 0);
        expect(cases[i].what, cases[i].near_pages, cases[i].far_pages, 0);
    }
    change_tables();
    vtd_invalidate_all(&guest, other);
    expect("everything of another table", 0, 0, 0xff);
    change_tables();
    vtd_invalidate(&guest, hwpt, IOVA, 8, IOMMU_VTD_INV_FLAGS_LEAF);
    expect("leaves of eight pages", 0xff, 0, 0);
}

/** Replaces a leaf table by another one. */
static void test_structures(void)
{
    uint64_t *entry, old, table = allocate_table(&guest);

    section("tables that were moved");
    for (unsigned i = 0; i != 8; i++)
        guest_word(&guest, table)[(IOVA >> 12 & 511) + i] = data_page(i + 8) | USER;
    cache_all();
    entry = entry_at(&guest, root, IOVA, 1);
    old = *entry;
    *entry = table | USER;
    check_number(seen_changes(IOVA, NO_PASID), 0,
                 "without invalidation the pages are the old ones");
    vtd_invalidate(&guest, hwpt, IOVA, 8, IOMMU_VTD_INV_FLAGS_LEAF);
    check_number(seen_changes(IOVA, NO_PASID), 0, "leaf: the old table is still walked");
    map_data_page(&guest, root, FAR, 0);
    vtd_invalidate(&guest, hwpt, FAR, 1, 0);
    check_number(seen_changes(IOVA, NO_PASID), 0, "an address far away changes nothing");
    vtd_invalidate(&guest, hwpt, IOVA, 1, 0);
    check_number(seen_changes(IOVA, NO_PASID), 0x01, "without leaf: the new table for that page");
    vtd_invalidate(&guest, hwpt, IOVA, 8, IOMMU_VTD_INV_FLAGS_LEAF);
    check_number(seen_changes(IOVA, NO_PASID), 0xff,
                 "and for the others once they are invalidated");
    *entry = old;
    vtd_invalidate_all(&guest, hwpt);
    check_number(seen_changes(IOVA, NO_PASID), 0, "everything: the first table again");
}

static void test_permissions(void)
{
    uint64_t *entry;

    section("rights that were changed");
    cache_all();
    entry = entry_at(&guest, root, IOVA, 0);
    check_number(dma_write(&device, IOVA, 1, NO_PASID), COMPLETED, "the page is written");
    *entry &= ~(uint64_t)RW;
    check_number(dma_write(&device, IOVA, 1, NO_PASID), COMPLETED, "and still is, made read-only");
    vtd_invalidate(&guest, hwpt, IOVA, 1, 0);
    check_number(dma_write(&device, IOVA, 1, NO_PASID) == COMPLETED, 0,
                 "but not after invalidation");
    *entry |= RW;
    check_number(dma_write(&device, IOVA, 1, NO_PASID), COMPLETED,
                 "what is allowed again needs none");
    memset(guest_word(&guest, data_page(0)), 1, PAGE);
    *entry = 0;
    check_number(at(IOVA), 1, "a page that was taken away is still read");
    vtd_invalidate(&guest, hwpt, IOVA, 1, 0);
    check_number(at(IOVA) > 0x100, 1, "but not after invalidation");
    map_data_page(&guest, root, IOVA, 0);
    check_number(at(IOVA), 1, "a page that comes needs none");
    drain_faults(&device);
}

static void test_attachments(void)
{
    uint32_t third = vtd_make_nested(&guest, &device, other_root), bad;

    section("attaching forgets");
    change_tables();
    check_errno(attach_to(&device, third, NO_PASID), 0, "another table is attached");
    check_number(seen_changes(IOVA, NO_PASID), 0xff, "its pages are as they are");
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "and the first again");
    check_number(seen_changes(IOVA, NO_PASID), 0xff, "as they are");
    check_number(seen_changes(IOVA, PASID(5)), 0, "the PASID's are not");
    bad = vtd_make_nested_with(&guest, &device, (struct iommu_hwpt_vtd_s1){.addr_width = 1}, 0);
    change_tables();
    check_errno(attach_to(&device, bad, NO_PASID), EINVAL, "a table that cannot be attached");
    check_errno(attach_to(&device, bad, PASID(5)), EINVAL, "nor for the PASID");
    expect("after the failure", 0, 0, 0);
    destroy_object(guest.iommufd, bad);
    destroy_object(guest.iommufd, third);
    check_errno(detach(&device, PASID(5)), 0, "the PASID is detached");
    check_number(in(5, IOVA) > 0x100, 1, "it is blocked");
    check_number(seen_changes(IOVA, NO_PASID), 0, "the device is not");
    check_errno(attach_to(&device, other, PASID(5)), 0, "it is attached again");
    check_number(seen_changes(IOVA, PASID(5)), 0xff, "and sees its pages as they are");
    drain_faults(&device);
}

/** Unmapping from the IOAS takes effect at once, without an invalidation by the guest. */
static void test_unmapping(void)
{
    section("memory that is taken from the guest");
    cache_all();
    check_errno(unmap_memory(&guest), 0, "IOAS_UNMAP");
    check_number(dma_read(&device, IOVA, 8, NO_PASID) == COMPLETED, 0, "nothing is read");
    check_number(dma_read(&device, IOVA, 8, PASID(5)) == COMPLETED, 0, "nor by PASID");
    check_errno(map_memory(&guest), 0, "IOAS_MAP");
    check_number(at(IOVA), 1, "it is there again");
    drain_faults(&device);
}

static long invalidate_list(const struct iommu_hwpt_vtd_s1_invalidate *entries, uint32_t *count)
{
    return vtd_invalidate_entries(guest.iommufd, hwpt, entries, sizeof(*entries), count);
}

static void test_errors(void)
{
    struct iommu_hwpt_vtd_s1_invalidate entries[4] = {{.addr = IOVA, .npages = 1},
                                                      {.addr = IOVA + PAGE, .npages = 1},
                                                      {.addr = IOVA + 2 * PAGE, .npages = 1},
                                                      {.addr = IOVA + 3 * PAGE, .npages = 1}};
    struct iommu_hwpt_invalidate cmd = invalidate_arguments(hwpt, 1, entries, sizeof(*entries), 1);
    uint32_t count;

    section("entries that are refused");
    change_tables();
    entries[2].flags = 2;
    count = 4;
    check_errno(invalidate_list(entries, &count), EOPNOTSUPP,
                "a flag that is none");
    check_number(count, 2, "the entries before it were handled");
    check_number(seen_changes(IOVA, NO_PASID), 0x03, "and took effect");
    entries[2].flags = 0;
    entries[2].__reserved = 1;
    count = 4;
    check_errno(invalidate_list(entries, &count), EOPNOTSUPP,
                "a reserved word");
    entries[2].__reserved = 0;
    entries[2].addr += 8;
    count = 4;
    check_errno(invalidate_list(entries, &count), EINVAL,
                "an address that is not a page's");
    check_number(count, 2, "the entries before it were handled");
    entries[2].addr = PAGE;
    entries[2].npages = UINT64_MAX;
    count = 4;
    check_errno(invalidate_list(entries, &count), EINVAL,
                "everything, but not from 0");
    count = 0;
    check_errno(invalidate_list(entries, &count), 0, "no entry");
    check_number(seen_changes(IOVA, NO_PASID), 0x03, "nothing else took effect");
    check_errno(ioctl(guest.iommufd, IOMMU_HWPT_INVALIDATE, &cmd), EINVAL, "another type");
    check_number(cmd.entry_num, 0, "nothing was handled");
    cmd.data_type = 0;
    cmd.entry_num = 1;
    cmd.entry_len = sizeof(*entries) - 4;
    check_errno(ioctl(guest.iommufd, IOMMU_HWPT_INVALIDATE, &cmd), EINVAL, "entries too short");
    cmd.entry_num = 1;
    cmd.entry_len = sizeof(*entries) + 8;
    check_errno(ioctl(guest.iommufd, IOMMU_HWPT_INVALIDATE, &cmd), EINVAL, "entries too long");
    cmd.hwpt_id = guest.parent;
    cmd.entry_num = 1;
    cmd.entry_len = sizeof(*entries);
    check_errno(ioctl(guest.iommufd, IOMMU_HWPT_INVALIDATE, &cmd), EINVAL, "a table of ours");
}

int main(int argc, char **argv)
{
    bool shared = true, with_ats = false;
    int iommufd = open_iommufd();

    for (int i = 1; i < argc; i++) {
        shared &= strcmp(argv[i], "--private") != 0;
        with_ats |= !strcmp(argv[i], "--ats");
    }
    device = vtd_find_device(iommufd, with_ats);
    guest = vtd_make_guest(iommufd, &device, shared, 0);
    root = allocate_table(&guest);
    other_root = allocate_table(&guest);
    hwpt = vtd_make_nested(&guest, &device, root);
    other = vtd_make_nested(&guest, &device, other_root);
    if (attach_to(&device, hwpt, NO_PASID) || attach_to(&device, other, PASID(5)))
        fatal("attach: %s", strerror(errno));
    test_granules();
    test_structures();
    test_permissions();
    test_attachments();
    test_unmapping();
    test_errors();
    return checks_exit_status();
}

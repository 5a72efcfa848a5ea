/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's first-stage tables on a VT-d unit: GET_HW_INFO, the HWPTs that can be allocated, DMA
 * through both stages, and faults with their records.
 *
 *   vtd_nested [--private]     the guest's memory is private to the process
 */
#include "guest/vtd.h"

#define IOVA 0x7000000000UL

static struct guest guest;
static struct test_device device;

/* ---- the unit ----------------------------------------------------------------------------- */

static void test_hardware(void)
{
    struct iommu_hw_info_vtd vtd = {0};
    struct {
        struct iommu_hw_info_vtd vtd;
        uint64_t more;
    } longer = {.more = ~0UL};
    struct iommu_hw_info info;

    section("what is told of the unit");
    check_errno(hardware_info(guest.iommufd, device.id, &vtd, sizeof(vtd), &info), 0, "GET_HW_INFO");
    check_number(info.out_data_type, IOMMU_HW_INFO_TYPE_INTEL_VTD, "it is a VT-d unit");
    check_number(info.data_len, sizeof(vtd), "with a struct of its own");
    check_number(vtd.flags, IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17, "the erratum is told");
    check_number(vtd.ecap_reg >> 43 & 0x1f, 0x1d, "SMTS, SSADS, SSTS, FSTS");
    check_number(vtd.ecap_reg >> 40 & 1 && vtd.ecap_reg >> 26 & 1 && vtd.ecap_reg >> 31 & 1, 1,
                 "PASID, NEST and SRS");
    check_number(vtd.cap_reg >> 60 & 1 && vtd.cap_reg >> 56 & 1, 1, "FS5LP and FS1GP");
    check_number(info.out_max_pasid_log2, 20, "PASIDs of 20 bits");
    check_number(info.out_capabilities,
                 IOMMU_HW_CAP_DIRTY_TRACKING | IOMMU_HW_CAP_PCI_PASID_EXEC |
                     IOMMU_HW_CAP_PCI_PASID_PRIV | IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED,
                 "capabilities of a device without ATS");
    info = (struct iommu_hw_info){.size = sizeof(info),
                                  .flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE,
                                  .dev_id = device.id,
                                  .in_data_type = IOMMU_HW_INFO_TYPE_ARM_SMMUV3};
    check_errno(ioctl(guest.iommufd, IOMMU_GET_HW_INFO, &info), EOPNOTSUPP,
                "asked for another vendor's");
    info = (struct iommu_hw_info){.size = sizeof(info),
                                  .flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE,
                                  .dev_id = device.id,
                                  .data_len = sizeof(longer),
                                  .data_uptr = (uintptr_t)&longer,
                                  .in_data_type = IOMMU_HW_INFO_TYPE_INTEL_VTD};
    check_errno(ioctl(guest.iommufd, IOMMU_GET_HW_INFO, &info), 0, "asked for its own");
    check_number(longer.vtd.cap_reg == vtd.cap_reg && !longer.more, 1, "a tail is cleared");
}

/* ---- allocation --------------------------------------------------------------------------- */

static void test_allocation(uint64_t root)
{
    struct iommu_hwpt_vtd_s1 data = {.pgtbl_addr = root, .addr_width = 48};
    unsigned char long_data[sizeof(data) + 8] = {0};
    uint32_t id = device.id, plain, hwpt, ioas = guest.ioas, parent = guest.parent;
    int fd = guest.iommufd;

    section("what can be allocated");
    check_errno(allocate_hwpt(fd, id, ioas, 0, 0, NULL, 0, 0, &plain), 0, "a paging table");
    check_errno(allocate_hwpt(fd, id, ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING, 0, NULL, 0, 0, &hwpt),
                0, "one that tracks dirty pages");
    destroy_object(fd, hwpt);
    check_errno(allocate_hwpt(fd, id, ioas, 1 << 4, 0, NULL, 0, 0, NULL), EOPNOTSUPP,
                "a flag that is none");
    check_errno(allocate_hwpt(fd, id, ioas, 0, 1, &data, sizeof(data), 0, NULL), EOPNOTSUPP,
                "a paging table with data");
    check_errno(allocate_hwpt(fd, id, plain, 0, 1, &data, sizeof(data), 0, NULL), EINVAL,
                "nested on what is no parent");
    check_errno(allocate_hwpt(fd, id, parent, 0, 0, NULL, 0, 0, NULL), EOPNOTSUPP,
                "nested without data");
    check_errno(allocate_hwpt(fd, id, parent, 0, 2, &data, sizeof(data), 0, NULL), EOPNOTSUPP,
                "nested with another vendor's data");
    check_errno(allocate_hwpt(fd, id, parent, IOMMU_HWPT_ALLOC_DIRTY_TRACKING, 1, &data,
                              sizeof(data), 0, NULL),
                EOPNOTSUPP, "nested with dirty tracking");
    check_errno(allocate_hwpt(fd, id, parent, IOMMU_HWPT_ALLOC_NEST_PARENT, 1, &data, sizeof(data),
                              0, NULL),
                EOPNOTSUPP, "nested as a parent");
    check_errno(allocate_hwpt(fd, id, parent, 0, 1, &data, sizeof(data) - 4, 0, NULL), EINVAL,
                "data that end before the reserved word");
    check_errno(allocate_hwpt(fd, id, parent, 0, 1, long_data, sizeof(long_data), 0, NULL), EINVAL,
                "longer data, even of zeros");
    check_errno(allocate_hwpt(fd, id, parent, 0, 1, (void *)8, sizeof(data), 0, NULL), EFAULT,
                "data that cannot be read");
    data.addr_width = 12;
    data.flags = ~0UL;
    check_errno(allocate_hwpt(fd, id, parent, 0, 1, &data, sizeof(data), 0, &hwpt), 0,
                "what the data say is looked at later");
    check_errno(destroy_object(fd, parent), EBUSY, "a parent stays while it is nested on");
    destroy_object(fd, hwpt);
    destroy_object(fd, plain);

    struct iommu_ioas_map map = map_arguments(ioas, (uintptr_t)guest.memory, PAGE,
                                              MAP_FLAGS & ~IOMMU_IOAS_MAP_WRITEABLE, 0x1000);
    check_errno(ioctl(fd, IOMMU_IOAS_MAP, &map), EINVAL, "read-only memory under a parent");
}

static void test_widths(uint64_t root)
{
    struct iommu_hwpt_vtd_s1 data = {.pgtbl_addr = root};
    static const uint32_t bad[] = {0, 39, 49, 64};
    uint64_t top = allocate_table(&guest);
    uint32_t hwpt;

    section("what the data must say at the latest when attached");
    for (unsigned i = 0; i != sizeof(bad) / sizeof(*bad); i++) {
        data.addr_width = bad[i];
        hwpt = vtd_make_nested_with(&guest, &device, data, 0);
        check_errno(attach_to(&device, hwpt, PASID(9)), EINVAL, "addresses of %u bits", bad[i]);
        check_errno(attach_to(&device, hwpt, NO_PASID), EINVAL, "addresses of %u bits, no PASID",
                    bad[i]);
        destroy_object(guest.iommufd, hwpt);
    }
    data.addr_width = 57;
    data.flags = IOMMU_VTD_S1_SRE | IOMMU_VTD_S1_EAFE | IOMMU_VTD_S1_WPE;
    data.pgtbl_addr = top;
    *guest_word(&guest, top) = root | USER;
    hwpt = vtd_make_nested_with(&guest, &device, data, 0);
    check_errno(attach_to(&device, hwpt, PASID(9)), 0, "five levels and every flag");
    check_number(read_byte(&guest, &device, IOVA, PASID(9)), 1, "five levels are walked");
    check_number(*guest_word(&guest, top) & 0xfff, USER | A | EA, "EAFE: EA is set beside A");
    dma_read(&device, 1UL << 56, 8, PASID(9));
    vtd_check_fault(&device, NOT_CANONICAL, 1UL << 56, PASID(9), false,
                    "bit 56 alone is not canonical");
    dma_read(&device, 1UL << 47, 8, PASID(9));
    vtd_check_fault(&device, FIRST_ABSENT, 1UL << 47, PASID(9), false,
                    "bit 47 is, with five levels");
    detach(&device, PASID(9));
    destroy_object(guest.iommufd, hwpt);
}

/* ---- translation -------------------------------------------------------------------------- */

static void test_translation(uint64_t root, uint32_t attributes)
{
    uint64_t *entry;

    section(attributes ? "data by PASID" : "data by requester id");
    check_number(read_byte(&guest, &device, IOVA, attributes), 1, "a page of 4 KiB is read");
    check_number(read_byte(&guest, &device, IOVA + PAGE, attributes), 2, "and the next");
    entry = entry_at(&guest, root, IOVA, 0);
    check_number(*entry & 0xfff, USER | A, "its entry is marked as used");
    check_number(*entry_at(&guest, root, IOVA, 3) & 0xfff, USER | A, "and the top one");
    check_number(dma_write(&device, IOVA + 3 * PAGE, 16, attributes), COMPLETED, "it is written");
    check_number(*guest_word(&guest, data_page(3)), 0x0202020202020202, "the data arrive");
    check_number(*entry_at(&guest, root, IOVA + 3 * PAGE, 0) & 0xfff, USER | A | D,
                 "its entry is marked as written");
    memset(guest_word(&guest, data_page(3)), 4, PAGE);
    check_number(dma_read(&device, IOVA + PAGE - 4, 8, attributes), COMPLETED, "across two pages");
    check_number(device_buffer_word(&guest, &device), 0x0202020201010101, "both halves");
    check_number(read_byte(&guest, &device, (1UL << 40) + DATA, attributes), 1,
                 "a page of 2 MiB is read");
    check_number(read_byte(&guest, &device, (2UL << 40) + DATA + PAGE, attributes), 2,
                 "a page of 1 GiB is read");
    check_number(read_byte(&guest, &device, ~0xfffUL, attributes), 5, "the highest address");
}

/** Checks that a read, or a write, faults and is recorded. */
static void no_read(uint64_t at, uint32_t attributes, uint32_t reason, const char *what)
{
    dma_read(&device, at, 8, attributes);
    vtd_check_fault(&device, reason, at, attributes, false, what);
}

static void no_write(uint64_t at, uint32_t attributes, uint32_t reason, const char *what)
{
    dma_write(&device, at, 8, attributes);
    vtd_check_fault(&device, reason, at, attributes, true, what);
}

static void test_refusals(uint64_t root, uint32_t attributes)
{
    uint64_t at = IOVA + 0x10 * PAGE;

    section(attributes ? "refusals by PASID" : "refusals by requester id");
    drain_faults(&device);
    check_number(dma_read(&device, at, 8, attributes), FAULTED, "nothing there");
    vtd_check_fault(&device, FIRST_ABSENT, at, attributes, false, "SFS.2 for reading");
    no_write(at + 8, attributes, FIRST_ABSENT, "SFS.2 for writing");
    no_read(5UL << 39, attributes, FIRST_ABSENT, "SFS.2 at the top");
    no_read(1UL << 47, attributes, NOT_CANONICAL, "SGN.1");

    at += PAGE;
    map_page(&guest, root, at, data_page(0), P | US);
    check_number(read_byte(&guest, &device, at, attributes), 1, "a read-only page is read");
    no_write(at, attributes, NO_WRITING, "SGN.6");
    check_number(*guest_word(&guest, data_page(0)) & 0xff, 1, "no byte moved");
    at += PAGE;
    map_page(&guest, root, at, data_page(0), P | RW);
    no_read(at, attributes, PRIVILEGE_ONLY, "SGN.2");
    at += PAGE;
    map_page(&guest, root, at, 1UL << 50 | data_page(0), USER);
    no_read(at, attributes, BEYOND_SECOND, "SGN.5: wider than the second stage");
    at += PAGE;
    map_page(&guest, root, at, GUEST - PAGE, USER);
    no_read(at, attributes, NO_READING, "SGN.7: not in the guest's memory");
    no_write(at, attributes, NO_WRITING, "SGN.6: not in the guest's memory");

    at = 6UL << 39;
    *entry_at(&guest, root, at, 3) = (GUEST - PAGE) | USER;
    no_read(at, attributes, TABLE_UNREADABLE, "SFS.7: a table not in memory");
    *entry_at(&guest, root, at, 3) = 1UL << 50 | USER;
    no_read(at, attributes, TABLE_BEYOND, "SFS.5: a table far away");
    *entry_at(&guest, root, at, 3) = GUEST | USER | PS;
    no_read(at, attributes, FIRST_RESERVED, "SFS.3: PS at the top");
    *entry_at(&guest, root, at, 3) = 0;
    at = 3UL << 40;
    *entry_at(&guest, root, at, 1) = GUEST | 1UL << 13 | USER | PS;
    no_read(at, attributes, FIRST_RESERVED, "SFS.3: 2 MiB askew");
    *entry_at(&guest, root, at, 1) = 0;
}

static void test_privilege(uint64_t root)
{
    struct iommu_hwpt_vtd_s1 data = {.pgtbl_addr = root, .addr_width = 48};
    uint64_t readable = IOVA + 0x18 * PAGE, system = readable + PAGE;
    uint32_t hwpt[3];

    section("privilege");
    map_page(&guest, root, readable, data_page(6), P | US);
    map_page(&guest, root, system, data_page(7), P | RW);
    for (unsigned i = 0; i != 3; i++) {
        data.flags = i == 2 ? IOMMU_VTD_S1_SRE | IOMMU_VTD_S1_WPE : i == 1 ? IOMMU_VTD_S1_SRE : 0;
        hwpt[i] = vtd_make_nested_with(&guest, &device, data, 0);
        if (attach_to(&device, hwpt[i], PASID(20 + i)))
            fatal("attach: %s", strerror(errno));
    }
    dma_read(&device, system, 8, PASID(20) | PRIVILEGED);
    vtd_check_fault(&device, NO_PRIVILEGE, system, PASID(20) | PRIVILEGED, false,
                    "SPT.6: SRE is clear");
    check_number(read_byte(&guest, &device, system, PASID(21) | PRIVILEGED), 8,
                 "SRE: the system's page is read");
    dma_read(&device, system, 8, PASID(21));
    vtd_check_fault(&device, PRIVILEGE_ONLY, system, PASID(21), false, "but not without privilege");
    check_number(dma_write(&device, readable, 8, PASID(21) | PRIVILEGED), COMPLETED,
                 "privilege writes to read-only pages");
    memset(guest_word(&guest, data_page(6)), 7, PAGE);
    dma_write(&device, readable, 8, PASID(22) | PRIVILEGED);
    vtd_check_fault(&device, NO_WRITING, readable, PASID(22) | PRIVILEGED, true,
                    "WPE: it does not");
    dma_read(&device, readable, 8, PASID(21) | EXECUTE);
    vtd_check_fault(&device, NO_EXECUTION, readable, PASID(21) | EXECUTE, false,
                    "nothing is executed");
    for (unsigned i = 0; i != 3; i++) {
        detach(&device, PASID(20 + i));
        destroy_object(guest.iommufd, hwpt[i]);
    }
}

int main(int argc, char **argv)
{
    bool shared = !(argc > 1 && !strcmp(argv[1], "--private"));
    int iommufd = open_iommufd();
    uint32_t hwpt;
    uint64_t root, bad;

    device = vtd_find_device(iommufd, false);
    guest = vtd_make_guest(iommufd, &device, shared, 0);
    root = allocate_table(&guest);
    for (unsigned i = 0; i != 8; i++)
        map_page(&guest, root, IOVA + i * PAGE, data_page(i), USER);
    *entry_at(&guest, root, 1UL << 40, 1) = GUEST | USER | PS;
    *entry_at(&guest, root, (1UL << 40) + DATA, 1) = (GUEST + DATA) | USER | PS;
    *entry_at(&guest, root, 2UL << 40, 2) = GUEST | USER | PS;
    map_page(&guest, root, ~0xfffUL & 0xffffffffffffUL, data_page(4), USER);

    test_hardware();
    test_allocation(root);
    hwpt = vtd_make_nested(&guest, &device, root);
    section("before anything is attached");
    dma_read(&device, IOVA, 8, NO_PASID);
    vtd_check_fault(&device, PASID_ABSENT, IOVA, NO_PASID, false, "SPT.2");
    dma_read(&device, IOVA, 8, PASID(0x1000));
    vtd_check_fault(&device, PASID_DIRECTORY_ABSENT, IOVA, PASID(0x1000), false, "SPD.2");
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "a nested table is attached");
    check_errno(attach_to(&device, hwpt, PASID(9)), 0, "and for a PASID");
    test_translation(root, NO_PASID);
    test_translation(root, PASID(9));
    test_refusals(root, NO_PASID);
    test_refusals(root, PASID(9));
    detach(&device, PASID(9));
    test_privilege(root);
    test_widths(root);

    section("a table that is nowhere");
    bad = GUEST - PAGE;
    hwpt = vtd_make_nested(&guest, &device, bad);
    attach_to(&device, hwpt, PASID(9));
    dma_read(&device, IOVA, 8, PASID(9));
    vtd_check_fault(&device, TOP_TABLE_UNREADABLE, IOVA, PASID(9), false, "SFS.6");
    detach(&device, PASID(9));
    dma_read(&device, IOVA, 8, PASID(9));
    vtd_check_fault(&device, PASID_ABSENT, IOVA, PASID(9), false,
                    "a PASID that is detached is blocked");
    return checks_exit_status();
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An AMD-Vi unit: GET_HW_INFO, the HWPTs that can be allocated, and a guest's page tables: as Linux
 * 7.3 answers (on the first unit), and as <linux/iommufd.h> describes them (on the second unit):
 * DMA, faults with their records, and cached translations until the unit is invalidated.
 *
 *   amd_nested [--private]     the guest's memory is private to the process
 */
#include "guest/amd.h"

#define IOVA 0x7000000000UL

static struct guest guest;
static struct test_device device;

/* ---- the unit ----------------------------------------------------------------------------- */

static void test_hardware(void)
{
    struct iommu_hw_info_amd amd = {0};
    struct iommu_hw_info info;

    section("what is told of the unit");
    check_errno(hardware_info(guest.iommufd, device.id, &amd, sizeof(amd), &info), 0, "GET_HW_INFO");
    check_number(info.out_data_type, IOMMU_HW_INFO_TYPE_AMD, "it is an AMD-Vi unit");
    check_number(info.data_len, sizeof(amd), "with a struct of its own");
    check_number(amd.efr >> 4 & 1, 1, "GTSup");
    check_number(amd.efr >> 10 & 3, 2, "HATS: six levels");
    check_number(amd.efr >> 12 & 3, 0, "GATS: four levels");
    check_number(amd.efr >> 14 & 3, 1, "GLXSup: two levels");
    check_number(amd.efr >> 32 & 31, 15, "PASmax: 16 bits");
    check_number(amd.efr >> 48 & 0x17, 0x17, "GIoSup, HASup, EPHSup, HDSup");
    check_number(amd.efr2, 1 << 3, "GCR3TRPMode");
    check_number(info.out_capabilities & IOMMU_HW_CAP_DIRTY_TRACKING, IOMMU_HW_CAP_DIRTY_TRACKING,
                 "dirty tracking");
    info = (struct iommu_hw_info){.size = sizeof(info),
                                  .flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE,
                                  .dev_id = device.id,
                                  .in_data_type = IOMMU_HW_INFO_TYPE_INTEL_VTD};
    check_errno(ioctl(guest.iommufd, IOMMU_GET_HW_INFO, &info), EOPNOTSUPP,
                "asked for another vendor's");
    info.in_data_type = IOMMU_HW_INFO_TYPE_AMD;
    check_errno(ioctl(guest.iommufd, IOMMU_GET_HW_INFO, &info), 0, "asked for its own");
}

static void test_reserved_ranges(void)
{
    struct iommu_iova_range ranges[8];
    struct iommu_ioas_iova_ranges cmd = {.size = sizeof(cmd),
                                         .ioas_id = guest.ioas,
                                         .num_iovas = 8,
                                         .allowed_iovas = (uintptr_t)ranges};

    section("which addresses can be mapped");
    check_errno(attach_to(&device, guest.parent, NO_PASID), 0, "a host table is attached");
    check_errno(ioctl(guest.iommufd, IOMMU_IOAS_IOVA_RANGES, &cmd), 0, "IOAS_IOVA_RANGES");
    if (!check_number(cmd.num_iovas, 3, "three ranges"))
        return;
    check_number(ranges[0].last, 0xfedfffff, "up to interrupts");
    check_number(ranges[1].start, 0xfef00000, "behind them");
    check_number(ranges[1].last, 0xfcffffffff, "up to what HyperTransport had");
    check_number(ranges[2].start, 0x10000000000, "behind it");
    check_number(ranges[2].last, UINT64_MAX, "to the end");
    dma_read(&device, 0xfee00000, 8, NO_PASID);
    amd_check_event(&device, INVALID_DEVICE_REQUEST, 0, 0xfee00000, 0xfee00000, NO_PASID,
                    "interrupts cannot be read");
    detach(&device, NO_PASID);
}

/* ---- the kernel's page tables ------------------------------------------------------------- */

static void test_kernel_tables(void)
{
    uint32_t id = device.id, hwpt, other;
    int fd = guest.iommufd;
    uint64_t bytes[4] = {0};

    section("page tables of the kernel's");
    check_errno(allocate_hwpt(fd, id, guest.ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING, 0, NULL, 0,
                              0, &hwpt), 0, "one that tracks dirty pages");
    destroy_object(fd, hwpt);
    check_errno(allocate_hwpt(fd, id, guest.ioas,
                              IOMMU_HWPT_ALLOC_DIRTY_TRACKING | IOMMU_HWPT_ALLOC_NEST_PARENT, 0,
                              NULL, 0, 0, &hwpt), 0, "and can be nested on");
    destroy_object(fd, hwpt);
    check_errno(allocate_hwpt(fd, id, guest.ioas,
                              IOMMU_HWPT_ALLOC_PASID | IOMMU_HWPT_ALLOC_NEST_PARENT, 0, NULL, 0,
                              0, NULL), EOPNOTSUPP, "for PASIDs and to nest on");
    check_errno(allocate_hwpt(fd, id, guest.ioas,
                              IOMMU_HWPT_ALLOC_PASID | IOMMU_HWPT_ALLOC_DIRTY_TRACKING, 0, NULL, 0,
                              0, NULL), EOPNOTSUPP, "for PASIDs and tracking dirty pages");
    check_errno(allocate_hwpt(fd, id, guest.ioas, 0, IOMMU_HWPT_DATA_AMD_GUEST, bytes,
                              sizeof(bytes), 0, NULL), EOPNOTSUPP, "with data");
    check_errno(allocate_hwpt(fd, id, guest.ioas, IOMMU_HWPT_ALLOC_PASID, 0, NULL, 0, 0, &hwpt), 0,
                "a guest table");
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "is attached");
    check_number(read_byte(&guest, &device, data_page(3), NO_PASID), 4, "is read through");
    dma_read(&device, SPARE, 8, NO_PASID);
    amd_check_event(&device, IO_PAGE_FAULT, EV_GN | EV_US, SPARE, SPARE, NO_PASID,
                    "a hole is PASID 0's");
    check_errno(attach_to(&device, hwpt, PASID(1)), EOPNOTSUPP, "but not for a PASID");
    check_errno(allocate_hwpt(fd, id, guest.ioas, 0, 0, NULL, 0, 0, &other), 0, "a host table");
    check_errno(attach_to(&device, other, NO_PASID), 0, "replaces it");
    check_number(read_byte(&guest, &device, data_page(3), NO_PASID), 4, "is read through, too");
    dma_read(&device, SPARE, 8, NO_PASID);
    amd_check_event(&device, IO_PAGE_FAULT, 0, SPARE, SPARE, NO_PASID, "a hole is the domain's");
    check_errno(attach_to(&device, other, PASID(1)), EINVAL,
                "a table that is not for PASIDs, for one");
    detach(&device, NO_PASID);
    dma_write(&device, data_page(0), 8, NO_PASID);
    amd_check_event(&device, IO_PAGE_FAULT, EV_RW | DETACHED, data_page(0), data_page(0), NO_PASID,
                    "without a table everything is a fault");
    destroy_object(fd, hwpt);
    destroy_object(fd, other);
}

/* ---- a guest's page tables as Linux 7.3 answers ------------------------------------------- */

static void test_as_linux_answers(void)
{
    struct iommu_hwpt_amd_guest data = guest_dte(GUEST, 1, 0);
    struct iommu_hwpt_invalidate invalidate = invalidate_arguments(guest.viommu, 1, NULL, 16, 0);
    uint32_t viommu;
    int fd = guest.iommufd;

    section("a guest's tables, as Linux 7.3 answers");
    check_errno(amd_allocate_viommu(fd, device.id, guest.parent, 77, &viommu), 0,
                "a vIOMMU of whatever type");
    destroy_object(fd, viommu);
    check_errno(amd_allocate_viommu(fd, device.id, guest.parent, 0, NULL), EOPNOTSUPP, "but not 0");
    check_errno(allocate_hwpt(fd, device.id, guest.viommu, 0, IOMMU_HWPT_DATA_AMD_GUEST, &data,
                              sizeof(data), 0, NULL), EOPNOTSUPP, "nested on a vIOMMU");
    check_errno(allocate_hwpt(fd, device.id, guest.parent, 0, IOMMU_HWPT_DATA_AMD_GUEST, &data,
                              sizeof(data), 0, NULL), EOPNOTSUPP, "nested on the parent");
    check_errno(ioctl(fd, IOMMU_HWPT_INVALIDATE, &invalidate), EOPNOTSUPP, "HWPT_INVALIDATE");
}

/* ---- a guest's page tables as the uAPI describes them ------------------------------------- */

static void test_device_table_entries(uint64_t gcr3)
{
    static const struct {
        uint64_t words[4];
        int error;
        const char *what;
    } cases[] = {
        {{0}, 0, "nothing valid"},
        {{DTE_V | DTE_GV}, EINVAL, "V and GV, but no GCR3 table"},
        {{DTE_V}, 0, "V alone"},
        {{1 << 9}, EINVAL, "a Mode"},
        {{0x1000}, EINVAL, "a host table"},
        {{DTE_GLX(2)}, 0, "GLX 2"},
        {{DTE_GLX(3)}, EINVAL, "GLX 3"},
        {{0, 0, 1UL << 54}, EOPNOTSUPP, "five levels"},
        {{0, 0, 2UL << 54}, EINVAL, "six levels"},
        {{3UL << 7 | 3UL << 61, ~0xffffUL, ~(3UL << 54), ~0UL}, 0, "what is the host's affair"},
    };
    struct iommu_hwpt_amd_guest data = guest_dte(gcr3, 1, 0);
    unsigned char longer[sizeof(data) + 8] = {0};
    uint32_t hwpt, id = device.id, viommu = guest.viommu;
    int fd = guest.iommufd;

    section("a guest's device table entries");
    for (unsigned i = 0; i != sizeof(cases) / sizeof(*cases); i++) {
        long result = allocate_hwpt(fd, id, viommu, 0, IOMMU_HWPT_DATA_AMD_GUEST, cases[i].words,
                                    sizeof(data), 0, &hwpt);

        check_errno(result, cases[i].error, "%s", cases[i].what);
        if (!result)
            destroy_object(fd, hwpt);
    }
    check_errno(allocate_hwpt(fd, id, viommu, 0, IOMMU_HWPT_DATA_VTD_S1, &data, sizeof(data),
                              0, NULL), EOPNOTSUPP, "another vendor's data");
    check_errno(allocate_hwpt(fd, id, viommu, 0, IOMMU_HWPT_DATA_AMD_GUEST, &data, 24, 0, NULL),
                EINVAL, "data that are too short");
    check_errno(allocate_hwpt(fd, id, viommu, 0, IOMMU_HWPT_DATA_AMD_GUEST, longer, sizeof(longer),
                              0, NULL), EINVAL, "longer data, even of zeros");
    check_errno(allocate_hwpt(fd, id, viommu, 0, IOMMU_HWPT_DATA_AMD_GUEST, (void *)8,
                              sizeof(data), 0, NULL), EFAULT, "data that cannot be read");
    check_errno(allocate_hwpt(fd, id, guest.parent, 0, IOMMU_HWPT_DATA_AMD_GUEST, &data,
                              sizeof(data), 0, NULL), EOPNOTSUPP, "nested on the parent itself");
    check_errno(allocate_hwpt(fd, id, viommu, IOMMU_HWPT_ALLOC_PASID, IOMMU_HWPT_DATA_AMD_GUEST,
                              &data, sizeof(data), 0, &hwpt), 0, "for PASIDs");
    check_errno(attach_to(&device, hwpt, PASID(1)), EOPNOTSUPP, "is not attached for one");
    destroy_object(fd, hwpt);
}

static void test_translation(uint64_t root, uint32_t pasid)
{
    section("data");
    check_number(read_byte(&guest, &device, data_page(5), NO_PASID), 6,
                 "without PASID it is the guest's memory");
    check_number(read_byte(&guest, &device, IOVA, pasid), 1, "a page of 4 KiB");
    check_number(read_byte(&guest, &device, IOVA + PAGE, pasid), 2, "and the next");
    check_number(*entry_at(&guest, root, IOVA, 0) & 0xfff, USER | A, "is marked as used");
    check_number(*entry_at(&guest, root, IOVA, 3) & 0xfff, USER | A, "and the top entry");
    check_number(read_byte(&guest, &device, (1UL << 40) + DATA, pasid), 1, "a page of 2 MiB");
    check_number(read_byte(&guest, &device, (2UL << 40) + DATA, pasid), 1, "a page of 1 GiB");
    check_number(read_byte(&guest, &device, ~0xfffUL, pasid), 5, "the highest address");
    check_number(dma_read(&device, IOVA, 8, pasid), COMPLETED, "the buffer is filled");
    check_number(dma_write(&device, IOVA + 3 * PAGE - 4, 8, pasid), COMPLETED,
                 "and written to two");
    check_number(*guest_word(&guest, data_page(3)) & 0xffffffff, 0x01010101, "the data arrive");
    check_number(*entry_at(&guest, root, IOVA + 3 * PAGE, 0) & 0xfff, USER | A | D,
                 "the second is marked as written");
    memset(guest_word(&guest, data_page(2)), 3, PAGE);
    memset(guest_word(&guest, data_page(3)), 4, PAGE);
}

static void test_refusals(uint64_t root, uint32_t pasid)
{
    uint64_t at = IOVA + 0x10 * PAGE;
    const unsigned gva = EV_GN | EV_US;

    section("refusals");
    drain_faults(&device);
    dma_read(&device, at, 8, pasid);
    amd_check_event(&device, IO_PAGE_FAULT, gva, at, at, pasid, "nothing there, for reading");
    dma_write(&device, at + 8, 8, pasid);
    amd_check_event(&device, IO_PAGE_FAULT, gva | EV_RW, at + 8, at + 8, pasid, "and for writing");
    dma_read(&device, 1UL << 47, 8, pasid);
    amd_check_event(&device, IO_PAGE_FAULT, gva, 1UL << 47, 1UL << 47, pasid, "not canonical");
    map_page(&guest, root, at, data_page(0), P | US);
    check_number(read_byte(&guest, &device, at, pasid), 1, "a read-only page is read");
    dma_write(&device, at, 8, pasid);
    amd_check_event(&device, IO_PAGE_FAULT, gva | EV_PR | EV_PE | EV_RW, at, at, pasid,
                    "and not written");
    check_number(*guest_word(&guest, data_page(0)) & 0xff, 1, "no byte moved");
    at += PAGE;
    map_page(&guest, root, at, data_page(0), P | RW);
    dma_read(&device, at, 8, pasid);
    amd_check_event(&device, IO_PAGE_FAULT, gva | EV_PR | EV_PE, at, at, pasid,
                    "for privilege only");
    check_number(dma_read(&device, at, 8, pasid | PRIVILEGED), COMPLETED, "with it, it is read");
    at += PAGE;
    map_page(&guest, root, at, data_page(0), USER | 1UL << 63);
    dma_read(&device, at, 8, pasid | EXECUTE);
    amd_check_event(&device, IO_PAGE_FAULT, gva | EV_NX | EV_PR | EV_PE, at, at, pasid,
                    "no-execute counts");
    at += PAGE;
    *entry_at(&guest, root, 3UL << 40, 2) = data_page(0) | USER | PS;
    dma_read(&device, 3UL << 40, 8, pasid);
    amd_check_event(&device, IO_PAGE_FAULT, gva | EV_PR | EV_RZ, 3UL << 40, 3UL << 40, pasid,
                    "reserved bits of a large page");
    map_page(&guest, root, at, SPARE, USER);
    dma_read(&device, at + 8, 8, pasid);
    amd_check_event(&device, IO_PAGE_FAULT, 0, SPARE + 8, at + 8, pasid,
                    "nothing there for the host: its address");
    *entry_at(&guest, root, 5UL << 39, 3) = SPARE | USER;
    dma_read(&device, 5UL << 39, 8, pasid);
    amd_check_event(&device, IO_PAGE_FAULT, 0, SPARE, 5UL << 39, pasid,
                    "a table that is not there");
    dma_read(&device, IOVA, 8, PASID(77));
    amd_check_event(&device, IO_PAGE_FAULT, gva, IOVA, IOVA, PASID(77), "a PASID without a table");
    dma_read(&device, IOVA, 8, PASID(0x200));
    amd_check_event(&device, IO_PAGE_FAULT, gva, IOVA, IOVA, PASID(0x200),
                    "a PASID that the GCR3 table has no room for");
}

static void test_caches(uint64_t gcr3, uint64_t root, uint32_t pasid, uint32_t hwpt)
{
    uint32_t again = amd_make_nested(&guest, &device, guest_dte(gcr3, 1, 0));
    uint64_t other = allocate_table(&guest);

    section("what is cached");
    map_page(&guest, other, IOVA, data_page(8), USER);
    check_number(read_byte(&guest, &device, IOVA, pasid), 1, "a page is read");
    map_page(&guest, root, IOVA, data_page(6), USER);
    check_number(read_byte(&guest, &device, IOVA, pasid), 1, "it is moved: the old one is read");
    amd_flush_caches(&guest);
    check_number(read_byte(&guest, &device, IOVA, pasid), 7, "something is unmapped: the new one");
    map_page(&guest, root, IOVA, data_page(7), USER);
    check_number(read_byte(&guest, &device, IOVA, pasid), 7, "it is moved again");
    check_errno(attach_to(&device, again, NO_PASID), 0, "the entry is attached anew");
    check_number(read_byte(&guest, &device, IOVA, pasid), 8, "the new one is read");
    guest_word(&guest, gcr3)[pasid & 511] = other | 1;
    check_number(read_byte(&guest, &device, IOVA, pasid), 8, "another table for the PASID");
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "attached anew");
    check_number(read_byte(&guest, &device, IOVA, pasid), 9, "it is read");
    guest_word(&guest, gcr3)[pasid & 511] = root | 1;
    check_errno(destroy_object(guest.iommufd, hwpt), EBUSY, "what is attached stays");
    check_errno(detach(&device, NO_PASID), 0, "detached");
    dma_read(&device, IOVA, 8, pasid);
    amd_check_event(&device, IO_PAGE_FAULT, EV_GN | EV_US, IOVA, IOVA, pasid,
                    "everything is a fault");
    destroy_object(guest.iommufd, again);
}

static void test_without_pasid(uint64_t gcr3, uint64_t root)
{
    uint64_t upper = allocate_table(&guest);
    uint32_t hwpt;

    section("GIoV, and GCR3 tables of two levels");
    guest_word(&guest, upper)[0] = gcr3 | 1;
    guest_word(&guest, upper)[0x7f] = gcr3 | 1;
    guest_word(&guest, gcr3)[0] = root | 1;
    map_page(&guest, root, GUEST + STAGING, GUEST + STAGING, USER);
    map_page(&guest, root, 1UL << 47, data_page(9), USER);
    hwpt = amd_make_nested(&guest, &device, guest_dte(upper, 2, DTE_GIOV | DTE_GLX(1)));
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "it is attached");
    check_number(read_byte(&guest, &device, IOVA + PAGE, NO_PASID), 2,
                 "without PASID it is PASID 0");
    check_number(read_byte(&guest, &device, 1UL << 47, NO_PASID), 10, "addresses have no sign");
    check_number(read_byte(&guest, &device, IOVA + PAGE, PASID(0xfe00)), 2, "a high PASID");
    drain_faults(&device);
    dma_read(&device, data_page(0), 8, NO_PASID);
    amd_check_event(&device, IO_PAGE_FAULT, EV_GN | EV_US, data_page(0), data_page(0), NO_PASID,
                    "the guest's memory is not seen");
    detach(&device, NO_PASID);
    destroy_object(guest.iommufd, hwpt);
}

static void test_as_uapi_describes(bool shared)
{
    const uint32_t pasid = PASID(9);
    uint64_t gcr3, root;
    uint32_t hwpt;

    device = amd_find_device(guest.iommufd);
    guest = amd_make_guest(guest.iommufd, &device, shared);
    gcr3 = allocate_table(&guest);
    root = allocate_table(&guest);
    guest_word(&guest, gcr3)[9] = root | 1;
    for (unsigned i = 0; i != 8; i++)
        map_page(&guest, root, IOVA + i * PAGE, data_page(i), USER);
    *entry_at(&guest, root, (1UL << 40) + DATA, 1) = (GUEST + DATA) | USER | PS;
    *entry_at(&guest, root, 2UL << 40, 2) = GUEST | USER | PS;
    map_page(&guest, root, ~0xfffUL & 0xffffffffffffUL, data_page(4), USER);

    test_device_table_entries(gcr3);
    hwpt = amd_make_nested(&guest, &device, guest_dte(gcr3, 1, 0));
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "a nested table is attached");
    test_translation(root, pasid);
    test_refusals(root, pasid);
    test_caches(gcr3, root, pasid, hwpt);
    test_without_pasid(gcr3, root);
}

int main(int argc, char **argv)
{
    bool shared = !(argc > 1 && !strcmp(argv[1], "--private"));
    int iommufd = open_iommufd();

    device = amd_find_device(iommufd);
    guest = amd_make_guest(iommufd, &device, shared);
    test_hardware();
    test_reserved_ranges();
    test_kernel_tables();
    test_as_linux_answers();
    test_as_uapi_describes(shared);
    return checks_exit_status();
}

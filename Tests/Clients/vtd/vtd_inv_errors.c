/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IOMMU_HWPT_INVALIDATE of VT-d tables with the extension vtd-invalidation-errors: the client
 * chooses an operation of the unit that fails, the entry then holds the error, and the translations
 * are still cached.
 */
#include "guest/vtd.h"

#define IOVA 0x7000000000UL
#define COUNT 8u

enum {
    ICE = IOMMUFD_SIM_VTD_S1_INVALIDATE_ICE,
    ITE = IOMMUFD_SIM_VTD_S1_INVALIDATE_ITE,
    IQE = IOMMUFD_SIM_VTD_S1_INVALIDATE_IQE,
    DEVICE_TLB = IOMMUFD_SIM_VTD_OPERATION_DEVICE_TLB,
    QUEUE = IOMMUFD_SIM_VTD_OPERATION_QUEUE,
    CLEAR = IOMMUFD_SIM_VTD_INVALIDATE_FAIL_CLEAR,
};

typedef struct iommufd_sim_vtd_s1_invalidate entry;

static struct guest guest;
static struct test_device device, plain; /* with and without a device TLB */
static uint64_t root;
static uint32_t hwpt;

/** Chooses an operation that will fail: the `nth` from now. Returns the ioctl's result. */
static long inject_failure(const struct test_device *of, uint32_t operation, uint32_t error,
                           uint32_t nth)
{
    struct iommufd_sim_vtd_invalidate_fail cmd = {.size = sizeof(cmd),
                                                  .dev_id = of->id,
                                                  .operation = operation,
                                                  .error = error,
                                                  .nth = nth};

    return ioctl(guest.iommufd, IOMMUFD_SIM_VTD_INVALIDATE_FAIL, &cmd);
}

static void must_inject_failure(const struct test_device *of, uint32_t operation, uint32_t error,
                                uint32_t nth)
{
    if (inject_failure(of, operation, error, nth))
        fatal("VTD_INVALIDATE_FAIL: %s", strerror(errno));
}

/** Invalidates `*count` entries of the HWPT, and stores in `*count` how many were handled. */
static long invalidate_by(const entry *entries, uint32_t length, uint32_t *count)
{
    return vtd_invalidate_entries(guest.iommufd, hwpt, entries, length, count);
}

/**
 * Returns an entry for page `i`, whose error and device are values that the simulator never stores.
 */
static entry page_entry(unsigned i)
{
    return (entry){.addr = IOVA + i * PAGE, .npages = 1, .error = ~0u, .dev_id = ~0u};
}

/** Maps page i at IOVA to data page i, and lets the device cache all translations. */
static void cache_all(uint32_t attributes)
{
    for (unsigned i = 0; i != COUNT; i++)
        map_data_page(&guest, root, IOVA + i * PAGE, i);
    vtd_invalidate_all(&guest, hwpt);
    for (unsigned i = 0; i != COUNT; i++)
        if (dma_read(&device, IOVA + i * PAGE, 8, attributes) != COMPLETED)
            fatal("the pages are not where they were mapped");
}

/** Maps page i to data page i + 8 after the translations were cached. */
static void change_table(uint32_t attributes)
{
    cache_all(attributes);
    for (unsigned i = 0; i != COUNT; i++)
        map_data_page(&guest, root, IOVA + i * PAGE, i + 8);
}

/** Returns for which pages the device uses the new entry: bit i for page i. */
static unsigned seen_changes(const struct test_device *by, uint32_t attributes)
{
    return moved_pages(&guest, by, IOVA, COUNT, attributes);
}

/** Invalidates page 0 and checks what the entry then holds. */
static void check_entry(const char *what, uint32_t error, uint32_t dev_id)
{
    entry e = page_entry(0);
    uint32_t count = 1;

    check_errno(invalidate_by(&e, sizeof(e), &count), 0, "%s", what);
    check_number(count, 1, "%s: the entry is counted", what);
    check_number(e.error, error, "%s: its error", what);
    check_number(e.dev_id, dev_id, "%s: its device", what);
    check_number(e.addr == IOVA && e.npages == 1 && !e.flags && !e.__reserved, 1,
                 "%s: nothing else was written", what);
}

static void test_errors(void)
{
    static const struct {
        const char *name;
        uint32_t operation, error, nth;
    } cases[] = {
        {"ITE of a device TLB", DEVICE_TLB, ITE, 1}, {"ICE of a device TLB", DEVICE_TLB, ICE, 1},
        {"IQE of a device TLB", DEVICE_TLB, IQE, 1}, {"IQE of the IOTLB", QUEUE, IQE, 1},
        {"IQE of the second operation", QUEUE, IQE, 2},
    };

    section("what fails is not done");
    change_table(NO_PASID);
    check_entry("nothing is to fail", 0, 0);
    check_number(seen_changes(&device, NO_PASID), 1, "the page is seen as it is");
    for (unsigned i = 0; i != sizeof(cases) / sizeof(*cases); i++) {
        change_table(NO_PASID);
        must_inject_failure(&device, cases[i].operation, cases[i].error, cases[i].nth);
        check_entry(cases[i].name, cases[i].error, device.id);
        check_number(seen_changes(&device, NO_PASID), 0, "%s: the page is seen as it was",
                     cases[i].name);
        check_entry("again", 0, 0);
        check_number(seen_changes(&device, NO_PASID), 1, "and the page as it is");
    }
}

static void test_arrays(void)
{
    entry entries[5];
    uint32_t count = 5;

    section("the n-th operation");
    change_table(NO_PASID);
    for (unsigned i = 0; i != 5; i++)
        entries[i] = page_entry(i);
    must_inject_failure(&device, DEVICE_TLB, ITE, 3);
    must_inject_failure(&device, DEVICE_TLB, ICE, 5);
    check_errno(invalidate_by(entries, sizeof(*entries), &count), 0, "five entries");
    check_number(count, 5, "all were handed to the hardware");
    for (unsigned i = 0; i != 5; i++) {
        check_number(entries[i].error, i == 2 ? ITE : i == 4 ? ICE : 0, "entry %u: its error", i);
        check_number(entries[i].dev_id, i == 2 || i == 4 ? device.id : 0, "entry %u: its device",
                     i);
    }
    check_number(seen_changes(&device, NO_PASID), 0x0b,
                 "the pages of the others are seen as they are");

    section("errors of software end the call");
    change_table(NO_PASID);
    for (unsigned i = 0; i != 5; i++)
        entries[i] = page_entry(i);
    entries[2].flags = 2;
    must_inject_failure(&device, DEVICE_TLB, ITE, 2);
    count = 5;
    check_errno(invalidate_by(entries, sizeof(*entries), &count), EOPNOTSUPP,
                "a flag that is none, in the third entry");
    check_number(count, 2, "two were handled");
    check_number(entries[0].error == 0 && entries[1].error == ITE, 1, "and have their errors");
    check_number(entries[2].error == ~0u && entries[3].dev_id == ~0u, 1, "the others have none");
    check_number(seen_changes(&device, NO_PASID), 1, "the first took effect");
    entries[0] = page_entry(0);
    entries[0].__reserved = 1;
    count = 1;
    check_errno(invalidate_by(entries, sizeof(*entries), &count), EOPNOTSUPP, "a reserved word");
    entries[0] = page_entry(0);
    entries[0].addr += 8;
    count = 1;
    check_errno(invalidate_by(entries, sizeof(*entries), &count), EINVAL,
                "an address that is not a page's");
    entries[0] = (entry){.addr = PAGE, .npages = UINT64_MAX};
    count = 1;
    check_errno(invalidate_by(entries, sizeof(*entries), &count), EINVAL,
                "everything, but not from 0");
    check_number(count, 0, "nothing was handled");
    entries[0] = (entry){.npages = UINT64_MAX};
    count = 1;
    check_errno(invalidate_by(entries, sizeof(*entries), &count), 0, "everything");
    check_number(seen_changes(&device, NO_PASID), 0xff, "all pages are seen as they are");
}

/** Entries that cannot be written to, and entries of other lengths. */
static void test_entry_memory(void)
{
    entry *shut = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t count = 1;

    section("entries in memory");
    if (shut == MAP_FAILED)
        fatal("no memory");
    *shut = page_entry(0);
    mprotect(shut, PAGE, PROT_READ);
    change_table(NO_PASID);
    check_errno(invalidate_by(shut, sizeof(*shut), &count), EFAULT, "that cannot be written to");
    check_number(count, 0, "none is counted");
    check_number(seen_changes(&device, NO_PASID), 1, "but it was done");
    munmap(shut, PAGE);
    count = 1;
    check_errno(invalidate_by(shut, sizeof(*shut), &count), EFAULT, "that is not there");
    entry e = page_entry(0);
    for (uint32_t length = 20; length <= 40; length += 4) {
        bool is_one = length == 24 || length == 32;

        count = 1;
        check_errno(invalidate_by(&e, length, &count), is_one ? 0 : EINVAL, "of %u bytes", length);
    }
}

/** Entries of the kernel's length have no field for an error. */
static void test_entries_without_error(void)
{
    section("entries without a place for errors");
    change_table(NO_PASID);
    must_inject_failure(&device, DEVICE_TLB, ITE, 1);
    vtd_invalidate(&guest, hwpt, IOVA, 1, 0);
    check_number(seen_changes(&device, NO_PASID), 1, "what timed out is submitted anew");
    change_table(NO_PASID);
    must_inject_failure(&device, DEVICE_TLB, ICE, 1);
    vtd_invalidate(&guest, hwpt, IOVA, 1, 0);
    check_number(seen_changes(&device, NO_PASID), 0, "a wrong completion is not told");
    change_table(NO_PASID);
    must_inject_failure(&device, QUEUE, IQE, 2);
    vtd_invalidate(&guest, hwpt, IOVA, 1, 0);
    check_number(seen_changes(&device, NO_PASID), 0, "nor is a descriptor that was not taken");
}

static void test_device_ids(void)
{
    struct iommu_viommu_alloc viommu =
        viommu_arguments(device.id, guest.parent, IOMMUFD_SIM_VIOMMU_TYPE_VTD, NULL, 0);
    struct iommu_vdevice_alloc vdevice;
    uint32_t on_unit;

    section("which device");
    check_errno(ioctl(guest.iommufd, IOMMU_VIOMMU_ALLOC, &viommu), 0, "a guest's unit");
    vdevice = vdevice_arguments(viommu.out_viommu_id, device.id, 0x1234);
    check_errno(ioctl(guest.iommufd, IOMMU_VDEVICE_ALLOC, &vdevice), 0, "its device 0x1234");
    must_inject_failure(&device, DEVICE_TLB, ITE, 1);
    check_entry("a device that the guest knows", ITE, 0x1234);
    struct iommu_hwpt_vtd_s1 data = {.pgtbl_addr = root, .addr_width = 48};
    check_errno(allocate_hwpt(guest.iommufd, device.id, viommu.out_viommu_id, IOMMU_HWPT_ALLOC_PASID,
                              IOMMU_HWPT_DATA_VTD_S1, &data, sizeof(data), 0, &on_unit),
                0, "a table on the guest's unit");
    destroy_object(guest.iommufd, on_unit);
    check_errno(destroy_object(guest.iommufd, vdevice.out_vdevice_id), 0, "it forgets the device");
    must_inject_failure(&device, DEVICE_TLB, ITE, 1);
    check_entry("a device that it does not know", ITE, device.id);
    destroy_object(guest.iommufd, viommu.out_viommu_id);

    check_errno(attach_to(&plain, hwpt, NO_PASID), 0, "another device has the same table");
    must_inject_failure(&device, DEVICE_TLB, ICE, 1);
    check_entry("the device TLB is the first's", ICE, device.id);
    change_table(NO_PASID);
    must_inject_failure(&plain, QUEUE, IQE, 1);
    check_entry("the IOTLB is both's", IQE, plain.id);
    check_number(seen_changes(&device, NO_PASID), 0, "so the first has its page as it was");
    must_inject_failure(&plain, DEVICE_TLB, ITE, 1);
    check_entry("the second has no device TLB", 0, 0);
    check_number(seen_changes(&plain, NO_PASID) & 1, 1, "and sees its page");
    check_errno(detach(&plain, NO_PASID), 0, "it is detached");
}

static void test_pasids(void)
{
    section("by PASID");
    check_errno(detach(&device, NO_PASID), 0, "the table is detached");
    check_errno(attach_to(&device, hwpt, PASID(5)), 0, "and attached to a PASID");
    change_table(PASID(5));
    must_inject_failure(&device, DEVICE_TLB, ITE, 1);
    check_entry("ITE of its device TLB", ITE, device.id);
    check_number(seen_changes(&device, PASID(5)), 0, "the page is seen as it was");
    check_entry("again", 0, 0);
    check_number(seen_changes(&device, PASID(5)), 1, "and as it is");
    check_errno(detach(&device, PASID(5)), 0, "the table is detached");
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "and as it was");
}

/** An invalidation by the kernel does not use up an injected failure. */
static void test_kernel_invalidation(void)
{
    section("what the kernel invalidates");
    cache_all(NO_PASID);
    must_inject_failure(&device, DEVICE_TLB, ITE, 1);
    check_errno(unmap_memory(&guest), 0, "IOAS_UNMAP");
    check_number(dma_read(&device, IOVA, 8, NO_PASID) == COMPLETED, 0, "is gone");
    check_errno(map_memory(&guest), 0, "IOAS_MAP");
    check_entry("the failure waits for the guest", ITE, device.id);
    drain_faults(&device);
}

static bool is_elsewhere(int iommufd, const struct test_device *other)
{
    struct iommu_hw_info_vtd vtd = {0};
    struct iommu_hw_info info;

    return hardware_info(iommufd, other->id, &vtd, sizeof(vtd), &info) ||
           info.out_data_type != IOMMU_HW_INFO_TYPE_INTEL_VTD;
}

/** A device behind an IOMMU of another vendor. */
static void other_units(void)
{
    struct test_device other;

    if (!find_wanted_device(guest.iommufd, &other, is_elsewhere))
        fatal("no device behind a unit of another kind");
    check_errno(inject_failure(&other, DEVICE_TLB, ITE, 1), EOPNOTSUPP, "another kind of unit");
    close(other.fd);
}

static void test_fail_command(void)
{
    struct iommufd_sim_vtd_invalidate_fail cmd = {.size = sizeof(cmd),
                                                  .dev_id = device.id,
                                                  .operation = DEVICE_TLB,
                                                  .error = ITE,
                                                  .nth = 1000};
    unsigned planned = 0;

    section("the command that plans");
    check_errno(inject_failure(&device, DEVICE_TLB, ITE, 0), EINVAL, "no operation");
    check_errno(inject_failure(&device, 0, ITE, 1), EINVAL, "of no kind");
    check_errno(inject_failure(&device, 3, ITE, 1), EINVAL, "of an unknown kind");
    check_errno(inject_failure(&device, DEVICE_TLB, 0, 1), EINVAL, "no error");
    check_errno(inject_failure(&device, DEVICE_TLB, ICE | ITE, 1), EINVAL, "two errors");
    check_errno(inject_failure(&device, DEVICE_TLB, 8, 1), EINVAL, "an unknown error");
    check_errno(inject_failure(&device, QUEUE, ITE, 1), EINVAL, "a time-out without a device TLB");
    check_errno(inject_failure(&device, QUEUE, ICE, 1), EINVAL,
                "a completion without a device TLB");
    cmd.dev_id = guest.ioas;
    check_errno(ioctl(guest.iommufd, IOMMUFD_SIM_VTD_INVALIDATE_FAIL, &cmd), ENOENT,
                "an object that is no device");
    other_units();
    cmd.dev_id = device.id;
    cmd.flags = 2;
    check_errno(ioctl(guest.iommufd, IOMMUFD_SIM_VTD_INVALIDATE_FAIL, &cmd), EOPNOTSUPP,
                "an unknown flag");
    cmd.flags = CLEAR;
    check_errno(ioctl(guest.iommufd, IOMMUFD_SIM_VTD_INVALIDATE_FAIL, &cmd), EINVAL,
                "a plan that is to be forgotten");
    cmd.flags = 0;
    cmd.size = sizeof(cmd) - 4;
    check_errno(ioctl(guest.iommufd, IOMMUFD_SIM_VTD_INVALIDATE_FAIL, &cmd), EINVAL, "too short");
    check_errno(ioctl(guest.iommufd, IOMMUFD_SIM_VTD_INVALIDATE_FAIL, NULL), EFAULT, "no struct");
    check_errno(ioctl(guest.iommufd, _IO(IOMMUFD_TYPE, 0xE1), &cmd), ENOTTY,
                "the number without direction");
    cmd.size = sizeof(cmd);
    while (!ioctl(guest.iommufd, IOMMUFD_SIM_VTD_INVALIDATE_FAIL, &cmd))
        planned++;
    check_errno(-1, ENOSPC, "more plans than there is room for");
    check_number(planned, 64, "were made");
    cmd = (struct iommufd_sim_vtd_invalidate_fail){
        .size = sizeof(cmd), .flags = CLEAR, .dev_id = device.id};
    check_errno(ioctl(guest.iommufd, IOMMUFD_SIM_VTD_INVALIDATE_FAIL, &cmd), 0, "all are forgotten");
    check_entry("nothing fails", 0, 0);
    must_inject_failure(&device, DEVICE_TLB, ITE, 1);
    close(device.faults);
    close(device.fd);
    device = vtd_find_device(guest.iommufd, true);
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "the device is closed and bound again");
    check_errno(attach_to(&device, guest.parent, STAGING_PASID), 0, "with its PASID");
    check_entry("its plans went with it", 0, 0);
}

int main(void)
{
    int iommufd = open_iommufd();

    device = vtd_find_device(iommufd, true);
    plain = vtd_find_device(iommufd, false);
    guest = vtd_make_guest(iommufd, &device, true, 0);
    root = allocate_table(&guest);
    hwpt = vtd_make_nested(&guest, &device, root);
    if (attach_to(&plain, guest.parent, STAGING_PASID) || attach_to(&device, hwpt, NO_PASID))
        fatal("attach: %s", strerror(errno));
    test_errors();
    test_arrays();
    test_entry_memory();
    test_entries_without_error();
    test_device_ids();
    test_pasids();
    test_kernel_invalidation();
    test_fail_command();
    return checks_exit_status();
}

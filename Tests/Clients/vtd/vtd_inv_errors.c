/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IOMMU_HWPT_INVALIDATE of VT-d tables with error reporting, for a server with the extension
 * vtd-invalidation-errors: the unit is told which operation is to fail, the entry says so, and what it
 * was to remove is still there.
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

/** Tells the unit. */
static long plan(const struct test_device *of, uint32_t operation, uint32_t error, uint32_t nth)
{
    struct iommufd_sim_vtd_invalidate_fail cmd = {.size = sizeof(cmd),
                                                  .dev_id = of->id,
                                                  .operation = operation,
                                                  .error = error,
                                                  .nth = nth};

    return ioctl(guest.iommufd, IOMMUFD_SIM_VTD_INVALIDATE_FAIL, &cmd);
}

static void must_plan(const struct test_device *of, uint32_t operation, uint32_t error,
                      uint32_t nth)
{
    if (plan(of, operation, error, nth))
        give_up("VTD_INVALIDATE_FAIL: %s", strerror(errno));
}

/** `*count` is how many entries there are, and then how many were handled. */
static long invalidate_by(const entry *entries, uint32_t length, uint32_t *count)
{
    return invalidate_entries(guest.iommufd, hwpt, entries, length, count);
}

/** An entry for page `i`, with an answer that nobody gives. */
static entry page_entry(unsigned i)
{
    return (entry){.addr = IOVA + i * PAGE, .npages = 1, .error = ~0u, .dev_id = ~0u};
}

/** Page i of IOVA is page i of the guest's data; all caches know it, of all who look. */
static void settle(uint32_t attributes)
{
    for (unsigned i = 0; i != COUNT; i++)
        point(&guest, root, IOVA + i * PAGE, i);
    invalidate_all(&guest, hwpt);
    for (unsigned i = 0; i != COUNT; i++)
        if (fetch(&device, IOVA + i * PAGE, 8, attributes) != COMPLETED)
            give_up("the pages are not where they were mapped");
}

/** All pages change places: page i is where page i + 8 was. */
static void change(uint32_t attributes)
{
    settle(attributes);
    for (unsigned i = 0; i != COUNT; i++)
        point(&guest, root, IOVA + i * PAGE, i + 8);
}

/** Which pages are seen as they are now: bit i for page i. */
static unsigned fresh(const struct test_device *by, uint32_t attributes)
{
    return moved_pages(&guest, by, IOVA, COUNT, attributes);
}

/** One entry, for page 0: what it says. */
static void one(const char *what, uint32_t error, uint32_t dev_id)
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

static void errors(void)
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
    change(NO_PASID);
    one("nothing is to fail", 0, 0);
    check_number(fresh(&device, NO_PASID), 1, "the page is seen as it is");
    for (unsigned i = 0; i != sizeof(cases) / sizeof(*cases); i++) {
        change(NO_PASID);
        must_plan(&device, cases[i].operation, cases[i].error, cases[i].nth);
        one(cases[i].name, cases[i].error, device.id);
        check_number(fresh(&device, NO_PASID), 0, "%s: the page is seen as it was", cases[i].name);
        one("again", 0, 0);
        check_number(fresh(&device, NO_PASID), 1, "and the page as it is");
    }
}

static void arrays(void)
{
    entry entries[5];
    uint32_t count = 5;

    section("the n-th operation");
    change(NO_PASID);
    for (unsigned i = 0; i != 5; i++)
        entries[i] = page_entry(i);
    must_plan(&device, DEVICE_TLB, ITE, 3);
    must_plan(&device, DEVICE_TLB, ICE, 5);
    check_errno(invalidate_by(entries, sizeof(*entries), &count), 0, "five entries");
    check_number(count, 5, "all were handed to the hardware");
    for (unsigned i = 0; i != 5; i++) {
        check_number(entries[i].error, i == 2 ? ITE : i == 4 ? ICE : 0, "entry %u: its error", i);
        check_number(entries[i].dev_id, i == 2 || i == 4 ? device.id : 0, "entry %u: its device",
                     i);
    }
    check_number(fresh(&device, NO_PASID), 0x0b, "the pages of the others are seen as they are");

    section("errors of software end the call");
    change(NO_PASID);
    for (unsigned i = 0; i != 5; i++)
        entries[i] = page_entry(i);
    entries[2].flags = 2;
    must_plan(&device, DEVICE_TLB, ITE, 2);
    count = 5;
    check_errno(invalidate_by(entries, sizeof(*entries), &count), EOPNOTSUPP,
                "a flag that is none, in the third entry");
    check_number(count, 2, "two were handled");
    check_number(entries[0].error == 0 && entries[1].error == ITE, 1, "and have their errors");
    check_number(entries[2].error == ~0u && entries[3].dev_id == ~0u, 1, "the others have none");
    check_number(fresh(&device, NO_PASID), 1, "the first took effect");
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
    check_number(fresh(&device, NO_PASID), 0xff, "all pages are seen as they are");
}

/** Entries that cannot be written to, and entries of other lengths. */
static void memory(void)
{
    entry *shut = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t count = 1;

    section("entries in memory");
    if (shut == MAP_FAILED)
        give_up("no memory");
    *shut = page_entry(0);
    mprotect(shut, PAGE, PROT_READ);
    change(NO_PASID);
    check_errno(invalidate_by(shut, sizeof(*shut), &count), EFAULT, "that cannot be written to");
    check_number(count, 0, "none is counted");
    check_number(fresh(&device, NO_PASID), 1, "but it was done");
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

/** The kernel's own entries have no place for errors. */
static void without_report(void)
{
    section("entries without a place for errors");
    change(NO_PASID);
    must_plan(&device, DEVICE_TLB, ITE, 1);
    invalidate(&guest, hwpt, IOVA, 1, 0);
    check_number(fresh(&device, NO_PASID), 1, "what timed out is submitted anew");
    change(NO_PASID);
    must_plan(&device, DEVICE_TLB, ICE, 1);
    invalidate(&guest, hwpt, IOVA, 1, 0);
    check_number(fresh(&device, NO_PASID), 0, "a wrong completion is not told");
    change(NO_PASID);
    must_plan(&device, QUEUE, IQE, 2);
    invalidate(&guest, hwpt, IOVA, 1, 0);
    check_number(fresh(&device, NO_PASID), 0, "nor is a descriptor that was not taken");
}

static void names(void)
{
    struct iommu_viommu_alloc viommu =
        viommu_arguments(device.id, guest.parent, IOMMUFD_SIM_VIOMMU_TYPE_VTD, NULL, 0);
    struct iommu_vdevice_alloc vdevice;
    uint32_t on_unit;

    section("which device");
    check_errno(ioctl(guest.iommufd, IOMMU_VIOMMU_ALLOC, &viommu), 0, "a guest's unit");
    vdevice = vdevice_arguments(viommu.out_viommu_id, device.id, 0x1234);
    check_errno(ioctl(guest.iommufd, IOMMU_VDEVICE_ALLOC, &vdevice), 0, "its device 0x1234");
    must_plan(&device, DEVICE_TLB, ITE, 1);
    one("a device that the guest knows", ITE, 0x1234);
    struct iommu_hwpt_vtd_s1 data = {.pgtbl_addr = root, .addr_width = 48};
    check_errno(allocate_hwpt(guest.iommufd, device.id, viommu.out_viommu_id, IOMMU_HWPT_ALLOC_PASID,
                              IOMMU_HWPT_DATA_VTD_S1, &data, sizeof(data), 0, &on_unit),
                0, "a table on the guest's unit");
    destroy_object(guest.iommufd, on_unit);
    check_errno(destroy_object(guest.iommufd, vdevice.out_vdevice_id), 0, "it forgets the device");
    must_plan(&device, DEVICE_TLB, ITE, 1);
    one("a device that it does not know", ITE, device.id);
    destroy_object(guest.iommufd, viommu.out_viommu_id);

    check_errno(attach_to(&plain, hwpt, NO_PASID), 0, "another device has the same table");
    must_plan(&device, DEVICE_TLB, ICE, 1);
    one("the device TLB is the first's", ICE, device.id);
    change(NO_PASID);
    must_plan(&plain, QUEUE, IQE, 1);
    one("the IOTLB is both's", IQE, plain.id);
    check_number(fresh(&device, NO_PASID), 0, "so the first has its page as it was");
    must_plan(&plain, DEVICE_TLB, ITE, 1);
    one("the second has no device TLB", 0, 0);
    check_number(fresh(&plain, NO_PASID) & 1, 1, "and sees its page");
    check_errno(detach(&plain, NO_PASID), 0, "it is detached");
}

static void pasids(void)
{
    section("by PASID");
    check_errno(detach(&device, NO_PASID), 0, "the table is detached");
    check_errno(attach_to(&device, hwpt, PASID(5)), 0, "and attached to a PASID");
    change(PASID(5));
    must_plan(&device, DEVICE_TLB, ITE, 1);
    one("ITE of its device TLB", ITE, device.id);
    check_number(fresh(&device, PASID(5)), 0, "the page is seen as it was");
    one("again", 0, 0);
    check_number(fresh(&device, PASID(5)), 1, "and as it is");
    check_errno(detach(&device, PASID(5)), 0, "the table is detached");
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "and as it was");
}

/** The kernel's invalidations are not the guest's. */
static void kernel(void)
{
    section("what the kernel invalidates");
    settle(NO_PASID);
    must_plan(&device, DEVICE_TLB, ITE, 1);
    check_errno(unmap_memory(&guest), 0, "IOAS_UNMAP");
    check_number(fetch(&device, IOVA, 8, NO_PASID) == COMPLETED, 0, "is gone");
    check_errno(map_memory(&guest), 0, "IOAS_MAP");
    one("the failure waits for the guest", ITE, device.id);
    drop_faults(&device);
}

static bool is_elsewhere(int iommufd, const struct test_device *other)
{
    struct iommu_hw_info_vtd vtd = {0};
    struct iommu_hw_info info;

    return hardware_info(iommufd, other->id, &vtd, sizeof(vtd), &info) ||
           info.out_data_type != IOMMU_HW_INFO_TYPE_INTEL_VTD;
}

/** A device whose unit is no VT-d unit. */
static void other_units(void)
{
    struct test_device other;

    if (!find_wanted_device(guest.iommufd, &other, is_elsewhere))
        give_up("no device behind a unit of another kind");
    check_errno(plan(&other, DEVICE_TLB, ITE, 1), EOPNOTSUPP, "another kind of unit");
    close(other.fd);
}

static void commands(void)
{
    struct iommufd_sim_vtd_invalidate_fail cmd = {.size = sizeof(cmd),
                                                  .dev_id = device.id,
                                                  .operation = DEVICE_TLB,
                                                  .error = ITE,
                                                  .nth = 1000};
    unsigned planned = 0;

    section("the command that plans");
    check_errno(plan(&device, DEVICE_TLB, ITE, 0), EINVAL, "no operation");
    check_errno(plan(&device, 0, ITE, 1), EINVAL, "of no kind");
    check_errno(plan(&device, 3, ITE, 1), EINVAL, "of an unknown kind");
    check_errno(plan(&device, DEVICE_TLB, 0, 1), EINVAL, "no error");
    check_errno(plan(&device, DEVICE_TLB, ICE | ITE, 1), EINVAL, "two errors");
    check_errno(plan(&device, DEVICE_TLB, 8, 1), EINVAL, "an unknown error");
    check_errno(plan(&device, QUEUE, ITE, 1), EINVAL, "a time-out without a device TLB");
    check_errno(plan(&device, QUEUE, ICE, 1), EINVAL, "a completion without a device TLB");
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
    one("nothing fails", 0, 0);
    must_plan(&device, DEVICE_TLB, ITE, 1);
    close(device.faults);
    close(device.fd);
    device = find_device(guest.iommufd, true);
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "the device is closed and bound again");
    check_errno(attach_to(&device, guest.parent, STAGING_PASID), 0, "with its PASID");
    one("its plans went with it", 0, 0);
}

int main(void)
{
    int iommufd = open_iommufd();

    device = find_device(iommufd, true);
    plain = find_device(iommufd, false);
    guest = make_guest(iommufd, &device, true, 0);
    root = make_table(&guest);
    hwpt = make_nested(&guest, &device, root);
    if (attach_to(&plain, guest.parent, STAGING_PASID) || attach_to(&device, hwpt, NO_PASID))
        give_up("attach: %s", strerror(errno));
    errors();
    arrays();
    memory();
    without_report();
    names();
    pasids();
    kernel();
    commands();
    return checked();
}

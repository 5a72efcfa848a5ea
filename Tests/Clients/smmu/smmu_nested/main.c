/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nesting on an SMMUv3: a guest's context descriptors and stage 1 tables, in its own memory, in front of
 * a nesting parent; DMA without and with PASID; what is cached until it is invalidated; and the events
 * that the guest is told of. Every expectation is checked here; the first that fails ends the client
 * with status 1.
 *
 *   smmu_nested [--memfd]     the guest's memory is a file
 */
#include "faults.h"
#include "translations.h"

/* ---- the unit, and what is attached -------------------------------------------------------- */

static void find_device(void)
{
    struct iommu_hw_info_arm_smmuv3 unit;
    struct iommu_hw_info info;

    device_id = bind_device(0, &info, &unit);
    check(info.data_len == sizeof(unit) && !unit.flags, "the unit tells what it is");
    check((unit.idr[0] & 3) == 3 && (unit.idr[0] >> 2 & 3) == 2, "both stages, AArch64");
    check(unit.idr[0] >> 19 & 1 && unit.idr[0] >> 18 & 1 && unit.idr[0] >> 12 & 1,
          "two levels of descriptors, VMIDs and ASIDs of 16 bits");
    check((unit.idr[1] >> 6 & 31) == 20 && info.out_max_pasid_log2 == 16,
          "substreams of 20 bits, of which the device has 16");
    check(unit.idr[3] & 1 << 10 && unit.idr[3] & 1 << 8, "range commands, forced write-back");
    check((unit.idr[5] >> 4 & 7) == 7, "granules of 4, 16 and 64 KiB");
    info.flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE;
    info.in_data_type = IOMMU_HW_INFO_TYPE_INTEL_VTD;
    check(ioctl(iommufd, IOMMU_GET_HW_INFO, &info) && errno == EOPNOTSUPP,
          "of another type it is not: EOPNOTSUPP");
}

static void try_entry(uint64_t first, uint64_t second, int error, const char *what)
{
    uint32_t table = nested((struct iommu_hwpt_arm_smmuv3){{first, second}});
    struct iommu_destroy cmd = {.size = sizeof(cmd), .id = table};

    check(error ? !table && errno == error : table, "%s: %s", what,
          error ? errno_name(error) : "good");
    if (table)
        ioctl(iommufd, IOMMU_DESTROY, &cmd);
}

static void entries(void)
{
    struct iommu_hwpt_arm_smmuv3 entry = {{0}};
    struct iommu_hwpt_alloc cmd =
        hwpt_arguments(device_id, viommu, 0, STREAM_ENTRY, &entry, sizeof(entry), 0);

    section("stream table entries");
    try_entry(0, 0, 0, "not valid");
    try_entry(~1ULL, ~0ULL, 0, "not valid, whatever else");
    try_entry(1 | STE_ABORT << 1, 0, 0, "abort");
    try_entry(1 | STE_BYPASS << 1, 0, 0, "bypass");
    try_entry(1 | STE_STAGE1 << 1, 0, 0, "stage 1");
    try_entry(1 | 1 << 1, 0, EIO, "Config 1");
    try_entry(1 | 6 << 1, 0, EIO, "stage 2");
    try_entry(1 | 7 << 1, 0, EIO, "both stages");
    try_entry(1 | STE_STAGE1 << 1 | 1ULL << 52, 0, EIO, "a pointer of 53 bits");
    try_entry(1 | STE_STAGE1 << 1, 1 << 8, EIO, "a bit that is not the guest's");
    try_entry(1 | STE_STAGE1 << 1, 1ULL << 44, EIO, "SHCFG");
    try_entry(1 | STE_STAGE1 << 1, 1 << 30, EIO, "STRW");
    try_entry(1 | STE_STAGE1 << 1, 0xff | 1 << 27 | 1 << 28, 0, "everything that is");
    try_entry(1 | STE_STAGE1 << 1, 2 << 28, EIO, "split-stage ATS");
    cmd.flags = IOMMU_HWPT_ALLOC_PASID;
    check(ioctl(iommufd, IOMMU_HWPT_ALLOC, &cmd) && errno == EOPNOTSUPP, "a flag: EOPNOTSUPP");
    cmd.flags = 0;
    cmd.data_len = 8;
    check(ioctl(iommufd, IOMMU_HWPT_ALLOC, &cmd) && errno == EINVAL, "half an entry: EINVAL");
    cmd.data_len = 16;
    cmd.data_type = IOMMU_HWPT_DATA_VTD_S1;
    check(ioctl(iommufd, IOMMU_HWPT_ALLOC, &cmd) && errno == EINVAL, "of another type: EINVAL");
    cmd.data_type = STREAM_ENTRY;
    cmd.pt_id = parent;
    check(ioctl(iommufd, IOMMU_HWPT_ALLOC, &cmd) && errno == EOPNOTSUPP,
          "on the parent itself: EOPNOTSUPP");
}

static void attaching(void)
{
    uint64_t page = page_of(0x21);
    uint32_t virtual, table;

    section("attaching");
    table = nested(stream_entry(STE_STAGE1, descriptors, 6, 0, 2));
    check(attach_to(table) == ENOENT, "stage 1 without a virtual device: ENOENT");
    attach_entry(stream_entry(STE_BYPASS, 0, 0, 0, 0));
    write_register(TEST_DEVICE_ADDRESS, 0, 8);
    check(copy_by(COPY_IN, PLAIN, page, 64) == COMPLETED &&
              copy_by(COPY_OUT, PLAIN, mirror, 64) == COMPLETED && *(char *)at(mirror) == 0x21,
          "bypass: addresses are the guest's physical ones");
    check(copy_by(COPY_IN, PLAIN, GUEST_BASE - PAGE, 64) == FAULTED, "and nothing beyond");
    attach_entry(stream_entry(STE_ABORT, 0, 0, 0, 0));
    check(copy_by(COPY_IN, PLAIN, page, 64) == FAULTED, "abort");
    virtual = vdevice_alloc(viommu, device_id, VIRTUAL_STREAM);
    check(virtual, "a virtual device");
    check(!vdevice_alloc(viommu, device_id, VIRTUAL_STREAM + 1), "is one for a device");
    veventq_alloc("events", viommu, EVENTS, 4, &event_queue);
    attach_entry(stream_entry(STE_BYPASS, 0, 0, 0, 0));
    check(copy_by(COPY_IN, 1, page, 64) == FAULTED, "without stage 1 there are no PASIDs");
    check_event(bad(C_BAD_SUBSTREAMID, 1), "C_BAD_SUBSTREAMID");
    attach_entry(stream_entry(STE_ABORT, 0, 0, 0, 0));
    check(copy_by(COPY_IN, PLAIN, page, 64) == FAULTED, "abort again");
    check_no_event("for an entry that says so");
    check(attach_to(table) == 0, "stage 1 with a virtual device");
}

static void attach_pasid(uint32_t table, uint32_t pasid, int error, const char *what)
{
    struct vfio_device_attach_iommufd_pt cmd = {.argsz = sizeof(cmd),
                                                .flags = VFIO_DEVICE_ATTACH_PASID,
                                                .pt_id = table, .pasid = pasid};
    int found = ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &cmd) ? errno : 0;

    check(found == error, "%s: %s", what, error ? errno_name(error) : "good");
}

static void detach_all(uint32_t pasid)
{
    struct vfio_device_detach_iommufd_pt cmd = {
        .argsz = sizeof(cmd), .flags = VFIO_DEVICE_DETACH_PASID, .pasid = pasid};

    if (ioctl(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &cmd))
        exit(1);
}

static uint32_t paging(uint32_t flags)
{
    struct iommu_hwpt_alloc cmd = hwpt_arguments(device_id, ioas, flags, 0, NULL, 0, 0);

    return ioctl(iommufd, IOMMU_HWPT_ALLOC, &cmd) ? 0 : cmd.out_hwpt_id;
}

static void kernel_tables(void)
{
    uint32_t stage1 = paging(IOMMU_HWPT_ALLOC_PASID), other;
    struct vfio_device_detach_iommufd_pt plain = {
        .argsz = offsetof(struct vfio_device_detach_iommufd_pt, pasid)};

    section("the kernel's own tables");
    check(stage1, "stage 1, for PASIDs");
    check(!paging(NEST | PASID) && errno == EOPNOTSUPP, "a nesting parent is none: EOPNOTSUPP");
    check(!paging(NEST | TRACK) && errno == EOPNOTSUPP, "nor tracks it: EOPNOTSUPP");
    attach_pasid(stage1, 7, EINVAL, "a PASID beside a guest's");
    check(attach_to(stage1) == 0, "without PASID");
    attach_pasid(stage1, 7, 0, "and with");
    check(copy_by(COPY_IN, PLAIN, pages[0], 64) == COMPLETED, "reads without");
    check(copy_by(COPY_OUT, 7, mirror, 64) == COMPLETED && *(char *)at(mirror) == 0x41,
          "writes with");
    check(copy_by(COPY_IN, 8, pages[0], 64) == FAULTED, "another PASID is nobody's");
    attach_pasid(stage1, 1 << 16, EINVAL, "more bits than the device has");
    other = nested(stream_entry(STE_STAGE1, descriptors, 6, 0, 2));
    check(attach_to(other) == EINVAL, "a guest's table beside a PASID: EINVAL");
    ioctl(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &plain);
    check(copy_by(COPY_IN, PLAIN, pages[0], 64) == FAULTED, "detached without PASID");
    check(copy_by(COPY_IN, 7, pages[0], 64) == COMPLETED, "still with");
    check(attach_to(parent) == EINVAL, "stage 2 beside a PASID: EINVAL");
    detach_all(7);
    check(copy_by(COPY_IN, 7, pages[0], 64) == FAULTED, "detached with PASID");
    check(attach_to(parent) == 0 && copy_by(COPY_IN, PLAIN, pages[0], 64) == COMPLETED,
          "stage 2 alone");
    check(attach_to(other) == 0, "and a guest's again");
    check_seen(2, HERE, 0x42, "which is as it was");
}

int main(int argc, char **argv)
{
    bool use_file = argc > 1 && !strcmp(argv[1], "--memfd");

    begin("a guest on an SMMUv3");
    find_device();
    ioas = ioas_alloc();
    make_guest_memory(ioas, use_file);
    parent = hwpt_alloc(device_id, ioas, NEST);
    viommu = viommu_alloc(device_id, parent, SMMUV3, NULL, 0);
    mirror = take_pages(1);
    descriptors = take_pages(1);
    entries();
    attaching();
    faults();
    invalidation();
    substreams();
    bad_commands();
    losses();
    kernel_tables();
    return 0;
}

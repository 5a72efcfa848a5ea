/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nesting on an SMMUv3: a guest's context descriptors and stage 1 tables in its own memory, nested
 * on a parent; DMA without and with PASID; cached translations; and the guest's events. The first
 * requirement that is not met ends the client with status 1.
 *
 *   smmu_nested [--memfd]     the guest's memory is a memfd
 */
#include "parts.h"

/* ---- the unit and attachments -------------------------------------------------------------- */

static void find_unit(void)
{
    struct iommu_hw_info_arm_smmuv3 unit;
    struct iommu_hw_info info;

    device_id = bind_smmu_device(0, &info, &unit);
    require(info.data_len == sizeof(unit) && !unit.flags, "the unit tells what it is");
    require((unit.idr[0] & 3) == 3 && (unit.idr[0] >> 2 & 3) == 2, "both stages, AArch64");
    require(unit.idr[0] >> 19 & 1 && unit.idr[0] >> 18 & 1 && unit.idr[0] >> 12 & 1,
            "two levels of descriptors, VMIDs and ASIDs of 16 bits");
    require((unit.idr[1] >> 6 & 31) == 20 && info.out_max_pasid_log2 == 16,
            "substreams of 20 bits, of which the device has 16");
    require(unit.idr[3] & 1 << 10 && unit.idr[3] & 1 << 8, "range commands, forced write-back");
    require((unit.idr[5] >> 4 & 7) == 7, "granules of 4, 16 and 64 KiB");
    info.flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE;
    info.in_data_type = IOMMU_HW_INFO_TYPE_INTEL_VTD;
    require(ioctl(iommufd, IOMMU_GET_HW_INFO, &info) && errno == EOPNOTSUPP,
            "of another type it is not: EOPNOTSUPP");
}

static void require_entry_result(uint64_t first, uint64_t second, int error, const char *what)
{
    uint32_t table = allocate_nested((struct iommu_hwpt_arm_smmuv3){{first, second}});
    struct iommu_destroy cmd = {.size = sizeof(cmd), .id = table};

    require(error ? !table && errno == error : table, "%s: %s", what,
            error ? errno_name(error) : "good");
    if (table)
        ioctl(iommufd, IOMMU_DESTROY, &cmd);
}

static void test_stream_entries(void)
{
    struct iommu_hwpt_arm_smmuv3 entry = {{0}};
    struct iommu_hwpt_alloc cmd =
        hwpt_arguments(device_id, viommu, 0, STREAM_ENTRY, &entry, sizeof(entry), 0);

    section("stream table entries");
    require_entry_result(0, 0, 0, "not valid");
    require_entry_result(~1ULL, ~0ULL, 0, "not valid, whatever else");
    require_entry_result(1 | STE_ABORT << 1, 0, 0, "abort");
    require_entry_result(1 | STE_BYPASS << 1, 0, 0, "bypass");
    require_entry_result(1 | STE_STAGE1 << 1, 0, 0, "stage 1");
    require_entry_result(1 | 1 << 1, 0, EIO, "Config 1");
    require_entry_result(1 | 6 << 1, 0, EIO, "stage 2");
    require_entry_result(1 | 7 << 1, 0, EIO, "both stages");
    require_entry_result(1 | STE_STAGE1 << 1 | 1ULL << 52, 0, EIO, "a pointer of 53 bits");
    require_entry_result(1 | STE_STAGE1 << 1, 1 << 8, EIO, "a bit that is not the guest's");
    require_entry_result(1 | STE_STAGE1 << 1, 1ULL << 44, EIO, "SHCFG");
    require_entry_result(1 | STE_STAGE1 << 1, 1 << 30, EIO, "STRW");
    require_entry_result(1 | STE_STAGE1 << 1, 0xff | 1 << 27 | 1 << 28, 0, "everything that is");
    require_entry_result(1 | STE_STAGE1 << 1, 2 << 28, EIO, "split-stage ATS");
    cmd.flags = IOMMU_HWPT_ALLOC_PASID;
    require(ioctl(iommufd, IOMMU_HWPT_ALLOC, &cmd) && errno == EOPNOTSUPP, "a flag: EOPNOTSUPP");
    cmd.flags = 0;
    cmd.data_len = 8;
    require(ioctl(iommufd, IOMMU_HWPT_ALLOC, &cmd) && errno == EINVAL, "half an entry: EINVAL");
    cmd.data_len = 16;
    cmd.data_type = IOMMU_HWPT_DATA_VTD_S1;
    require(ioctl(iommufd, IOMMU_HWPT_ALLOC, &cmd) && errno == EINVAL, "of another type: EINVAL");
    cmd.data_type = STREAM_ENTRY;
    cmd.pt_id = parent;
    require(ioctl(iommufd, IOMMU_HWPT_ALLOC, &cmd) && errno == EOPNOTSUPP,
            "on the parent itself: EOPNOTSUPP");
}

static void test_attachment(void)
{
    uint64_t page = allocate_filled_page(0x21);
    uint32_t virtual, table;

    section("attaching");
    table = allocate_nested(stream_entry(STE_STAGE1, cd_table, 6, 0, 2));
    require(attach_table(table) == ENOENT, "stage 1 without a virtual device: ENOENT");
    attach_entry(stream_entry(STE_BYPASS, 0, 0, 0, 0));
    bar0_write(TEST_DEVICE_ADDRESS, 0, 8);
    require(run_dma(DMA_READ, NO_SUBSTREAM, page, 64) == COMPLETED &&
                run_dma(DMA_WRITE, NO_SUBSTREAM, readback_page, 64) == COMPLETED &&
                *(char *)guest_at(readback_page) == 0x21,
            "bypass: addresses are the guest's physical ones");
    require(run_dma(DMA_READ, NO_SUBSTREAM, GUEST_BASE - PAGE, 64) == FAULTED,
            "and nothing beyond");
    attach_entry(stream_entry(STE_ABORT, 0, 0, 0, 0));
    require(run_dma(DMA_READ, NO_SUBSTREAM, page, 64) == FAULTED, "abort");
    virtual = vdevice_alloc(viommu, device_id, VIRTUAL_STREAM);
    require(virtual, "a virtual device");
    require(!vdevice_alloc(viommu, device_id, VIRTUAL_STREAM + 1), "is one for a device");
    veventq_alloc("events", viommu, EVENTS, 4, &event_queue);
    attach_entry(stream_entry(STE_BYPASS, 0, 0, 0, 0));
    require(run_dma(DMA_READ, 1, page, 64) == FAULTED, "without stage 1 there are no PASIDs");
    require_event(structure_event(C_BAD_SUBSTREAMID, 1), "C_BAD_SUBSTREAMID");
    attach_entry(stream_entry(STE_ABORT, 0, 0, 0, 0));
    require(run_dma(DMA_READ, NO_SUBSTREAM, page, 64) == FAULTED, "abort again");
    require_no_event("for an entry that says so");
    require(attach_table(table) == 0, "stage 1 with a virtual device");
}

static void attach_pasid(uint32_t table, uint32_t pasid, int error, const char *what)
{
    struct vfio_device_attach_iommufd_pt cmd = {.argsz = sizeof(cmd),
                                                .flags = VFIO_DEVICE_ATTACH_PASID,
                                                .pt_id = table, .pasid = pasid};
    int found = ioctl(device_fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &cmd) ? errno : 0;

    require(found == error, "%s: %s", what, error ? errno_name(error) : "good");
}

static void detach_pasid(uint32_t pasid)
{
    struct vfio_device_detach_iommufd_pt cmd = {
        .argsz = sizeof(cmd), .flags = VFIO_DEVICE_DETACH_PASID, .pasid = pasid};

    if (ioctl(device_fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &cmd))
        exit(1);
}

static uint32_t allocate_paging(uint32_t flags)
{
    struct iommu_hwpt_alloc cmd = hwpt_arguments(device_id, ioas, flags, 0, NULL, 0, 0);

    return ioctl(iommufd, IOMMU_HWPT_ALLOC, &cmd) ? 0 : cmd.out_hwpt_id;
}

static void test_kernel_tables(void)
{
    uint32_t stage1 = allocate_paging(IOMMU_HWPT_ALLOC_PASID), other;
    struct vfio_device_detach_iommufd_pt plain = {
        .argsz = offsetof(struct vfio_device_detach_iommufd_pt, pasid)};

    section("the kernel's own tables");
    require(stage1, "stage 1, for PASIDs");
    require(!allocate_paging(NEST | PASID) && errno == EOPNOTSUPP,
            "a nesting parent is none: EOPNOTSUPP");
    require(!allocate_paging(NEST | TRACK) && errno == EOPNOTSUPP, "nor tracks it: EOPNOTSUPP");
    attach_pasid(stage1, 7, EINVAL, "a PASID beside a guest's");
    require(attach_table(stage1) == 0, "without PASID");
    attach_pasid(stage1, 7, 0, "and with");
    require(run_dma(DMA_READ, NO_SUBSTREAM, pages[0], 64) == COMPLETED, "reads without");
    require(run_dma(DMA_WRITE, 7, readback_page, 64) == COMPLETED &&
                *(char *)guest_at(readback_page) == 0x41,
            "writes with");
    require(run_dma(DMA_READ, 8, pages[0], 64) == FAULTED, "another PASID is nobody's");
    attach_pasid(stage1, 1 << 16, EINVAL, "more bits than the device has");
    other = allocate_nested(stream_entry(STE_STAGE1, cd_table, 6, 0, 2));
    require(attach_table(other) == EINVAL, "a guest's table beside a PASID: EINVAL");
    ioctl(device_fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &plain);
    require(run_dma(DMA_READ, NO_SUBSTREAM, pages[0], 64) == FAULTED, "detached without PASID");
    require(run_dma(DMA_READ, 7, pages[0], 64) == COMPLETED, "still with");
    require(attach_table(parent) == EINVAL, "stage 2 beside a PASID: EINVAL");
    detach_pasid(7);
    require(run_dma(DMA_READ, 7, pages[0], 64) == FAULTED, "detached with PASID");
    require(attach_table(parent) == 0 && run_dma(DMA_READ, NO_SUBSTREAM, pages[0], 64) == COMPLETED,
            "stage 2 alone");
    require(attach_table(other) == 0, "and a guest's again");
    require_byte(2, HERE, 0x42, "which is as it was");
}

int main(int argc, char **argv)
{
    bool use_file = argc > 1 && !strcmp(argv[1], "--memfd");

    begin("a guest on an SMMUv3");
    find_unit();
    ioas = ioas_alloc();
    make_smmu_guest_memory(ioas, use_file);
    parent = hwpt_alloc(device_id, ioas, NEST);
    viommu = viommu_alloc(device_id, parent, SMMUV3, NULL, 0);
    readback_page = allocate_pages(1);
    cd_table = allocate_pages(1);
    test_stream_entries();
    test_attachment();
    test_faults();
    test_invalidation();
    test_substreams();
    test_refused_commands();
    test_lost_events();
    test_kernel_tables();
    return 0;
}

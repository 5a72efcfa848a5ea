/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nesting on an SMMUv3: a guest's context descriptors and stage 1 tables, in its own memory, in front of
 * a nesting parent; DMA without and with PASID; what is cached until it is invalidated; and the events
 * that the guest is told of. Every expectation is checked here; the first that fails ends the client
 * with status 1.
 *
 *   smmu_nested [--memfd]     the guest's memory is a file
 */
#include "smmu_driver.h"

/* ---- the parts ---------------------------------------------------------------------------- */

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
    write_register(REGISTER_ADDRESS, 0, 8);
    check(copy_by(COPY_IN, PLAIN, page, 64) == DONE &&
              copy_by(COPY_OUT, PLAIN, mirror, 64) == DONE && *(char *)at(mirror) == 0x21,
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

static const uint64_t HERE = 0x12345000, THERE = 0x76543000;

static void faults(void)
{
    uint64_t root = new_space(), page = page_of(0x31), tables[2];

    section("faults");
    set_context(0, context(root, 1));
    command(configuration(CFGI_CD, VIRTUAL_STREAM, 0));
    map_page(root, HERE, page, LEAF);
    check_seen(PLAIN, HERE, 0x31, "the device reads through both stages");
    memset(at(mirror), 0x32, 64);
    check(copy_by(COPY_OUT, PLAIN, HERE, 64) == DONE && *(char *)at(page) == 0x31, "and writes");
    check_no_event("so far");
    check_seen(PLAIN, THERE, -FAULTED, "no entry");
    check_event(fault(F_TRANSLATION, PLAIN, THERE, true), "F_TRANSLATION, read");
    check(copy_by(COPY_OUT, PLAIN, THERE + 0x123, 64) == FAULTED, "nor for a write");
    check_event(fault(F_TRANSLATION, PLAIN, THERE + 0x123, false), "F_TRANSLATION, write");
    map_page(root, THERE, page, LEAF | PTE_READ_ONLY);
    check_seen(PLAIN, THERE, 0x31, "absent entries are not cached; read-only");
    check(copy_by(COPY_OUT, PLAIN, THERE, 64) == FAULTED, "so not written");
    check_event(fault(F_PERMISSION, PLAIN, THERE, false), "F_PERMISSION, write");
    map_page(root, THERE + PAGE, page, LEAF & ~PTE_USER);
    check_seen(PLAIN, THERE + PAGE, -FAULTED, "for privileged accesses only");
    check_event(fault(F_PERMISSION, PLAIN, THERE + PAGE, true), "F_PERMISSION, read");
    map_page(root, THERE + 2 * PAGE, page, LEAF & ~PTE_AF);
    check_seen(PLAIN, THERE + 2 * PAGE, -FAULTED, "without access flag");
    check_event(fault(F_ACCESS, PLAIN, THERE + 2 * PAGE, true), "F_ACCESS");
    map_page(root, THERE + 3 * PAGE, 1ULL << 41, LEAF);
    check_seen(PLAIN, THERE + 3 * PAGE, -FAULTED, "an output beyond IPS");
    check_event(fault(F_ADDR_SIZE, PLAIN, THERE + 3 * PAGE, true), "F_ADDR_SIZE");
    check_seen(PLAIN, 1ULL << 48, -FAULTED, "an input beyond T0SZ");
    check_event(fault(F_TRANSLATION, PLAIN, 1ULL << 48, true), "F_TRANSLATION");
    check_seen(PLAIN, ~0xfffULL, -FAULTED, "the upper half, which is disabled");
    check_event(fault(F_TRANSLATION, PLAIN, ~0xfffULL, true), "F_TRANSLATION");
    map_page(root, THERE + 4 * PAGE, GUEST_BASE + GUEST_PAGES * PAGE, LEAF);
    check_seen(PLAIN, THERE + 4 * PAGE, -FAULTED, "where the guest has no memory");
    *entry_of(root, 0x8000000000, 0) = 0x1000 | PTE_VALID | PTE_TABLE;
    check_seen(PLAIN, 0x8000000000, -FAULTED, "a table where it has none");
    check_no_event("of stage 2, which is not the guest's");
    section("over two pages");
    map_page(root, THERE + 8 * PAGE, page, LEAF);
    tables[0] = *(uint64_t *)at(page);
    check(copy_by(COPY_OUT, PLAIN, THERE + 9 * PAGE - 32, 64) == FAULTED, "the second is absent");
    check_event(fault(F_TRANSLATION, PLAIN, THERE + 9 * PAGE, false), "for the second");
    tables[1] = *(uint64_t *)at(page);
    check(tables[0] == tables[1], "the first is as it was");
}

/** Changes what HERE is in both address spaces and both pages of each. */
static uint64_t spaces[2], pages[2];

static void turn(int to)
{
    for (int space = 0; space != 2; space++)
        for (int page = 0; page != 2; page++)
            map_page(spaces[space], HERE + page * PAGE, pages[to], LEAF);
}

static void load_all(void)
{
    for (int pasid = 0; pasid != 2; pasid++)
        for (int page = 0; page != 2; page++)
            seen(pasid + 1, HERE + page * PAGE);
}

/** Which of the four translations are new: bit 0 of PASID 1, page 0; bit 1 of its page 1; ... */
static unsigned renewed(void)
{
    unsigned set = 0;

    for (int pasid = 0; pasid != 2; pasid++)
        for (int page = 0; page != 2; page++)
            if (seen(pasid + 1, HERE + page * PAGE) == 0x42)
                set |= 1u << (2 * pasid + page);
    return set;
}

static void check_scope(struct smmu_command invalidation, unsigned expected, const char *what)
{
    unsigned found;

    turn(0);
    command(tlbi(NSNH_ALL, 0, 0));
    load_all();
    turn(1);
    check(renewed() == 0, "changed tables are not noticed");
    command(invalidation);
    found = renewed();
    if (found != expected)
        printf("found %x, not %x\n", found, expected);
    check(found == expected, "%s", what);
}

static void invalidation(void)
{
    section("what is cached until it is invalidated");
    pages[0] = page_of(0x41);
    pages[1] = page_of(0x42);
    for (int space = 0; space != 2; space++) {
        spaces[space] = new_space();
        set_context(space + 1, context(spaces[space], 11 + space));
    }
    command(configuration(CFGI_CD_ALL, VIRTUAL_STREAM, 0));
    check_scope(tlbi(NH_VA, 11, HERE), 1, "NH_VA: one page of one ASID");
    check_scope(tlbi(NH_VA, 11, HERE | 1), 1, "NH_VA, leaf only: the same");
    check_scope(tlbi(NH_VA, 99, HERE), 0, "NH_VA of another ASID: nothing");
    check_scope(tlbi(NH_VAA, 0, HERE + PAGE), 2 | 8, "NH_VAA: one page of every ASID");
    check_scope(tlbi(NH_ASID, 12, 0), 4 | 8, "NH_ASID: all pages of one ASID");
    check_scope(tlbi(NH_ALL, 0, 0), 15, "NH_ALL: everything of the guest's");
    check_scope(tlbi(NSNH_ALL, 0, 0), 15, "NSNH_ALL: the same");
    check_scope(tlbi_range(NH_VA, 12, HERE, 1, 0, 3), 4 | 8, "a range of two pages, level 3");
    check_scope(tlbi_range(NH_VA, 12, HERE, 0, 1, 0), 4 | 8, "as a scale, at any level");
    check_scope(tlbi_range(NH_VA, 12, HERE, 1, 0, 2), 0, "there is nothing at level 2");
    check_scope(tlbi_range(NH_VAA, 0, HERE - 31 * PAGE, 31, 0, 3), 1 | 4, "32 pages, HERE the last");
    check_scope(configuration(CFGI_CD, VIRTUAL_STREAM, 1), 0, "descriptors are not translations");

    section("blocks");
    map_2m(spaces[0], 0x40000000, GUEST_BASE + 0x200000, LEAF);
    *(char *)at(GUEST_BASE + 0x200000) = 0x51;
    *(char *)at(GUEST_BASE + 0x201000) = 0x52;
    check_seen(1, 0x40000000, 0x51, "a block of 2 MiB");
    check_seen(1, 0x40001000, 0x52, "another page of it");
    map_2m(spaces[0], 0x40000000, 0, 0);
    check_seen(1, 0x40001000, 0x52, "is still there");
    command(tlbi(NH_VA, 11, 0x40010000));
    check_seen(1, 0x40000000, -FAULTED, "one address of it invalidates all of it");
    check_event(fault(F_TRANSLATION, 1, 0x40000000, true), "F_TRANSLATION with a PASID");

    section("descriptors");
    turn(0);
    command(tlbi(NSNH_ALL, 0, 0));
    map_page(spaces[1], HERE, pages[1], LEAF);
    check_seen(1, HERE, 0x41, "through the first descriptor");
    set_context(1, context(spaces[1], 13));
    check_seen(1, HERE, 0x41, "a changed one is not noticed");
    command(configuration(CFGI_CD, VIRTUAL_STREAM, 2));
    check_seen(1, HERE, 0x41, "nor when another is invalidated");
    command(configuration(CFGI_CD, VIRTUAL_STREAM, 1));
    check_seen(1, HERE, 0x42, "until it is");
    set_context(1, context(spaces[0], 11));
    command(configuration(CFGI_CD_ALL, VIRTUAL_STREAM, 0));
    check_seen(1, HERE, 0x41, "or all are");
}

static void substreams(void)
{
    struct descriptor descriptor = context(spaces[0], 11);
    uint64_t upper = take_pages(1), lower = take_pages(16);

    section("substreams");
    check_seen(64, HERE, -FAULTED, "beyond S1CDMax");
    check_event(bad(C_BAD_SUBSTREAMID, 64), "C_BAD_SUBSTREAMID");
    check_seen(0, HERE, -FAULTED, "0 is for accesses without");
    check_event(bad(F_STREAM_DISABLED, 0), "F_STREAM_DISABLED");
    check_seen(5, HERE, -FAULTED, "a descriptor that is not valid");
    check_event(bad(C_BAD_CD, 5), "C_BAD_CD");
    descriptor.words[0] &= ~0x3fULL;
    set_context(5, descriptor);
    check_seen(5, HERE, -FAULTED, "T0SZ 0");
    check_event(bad(C_BAD_CD, 5), "C_BAD_CD");
    descriptor = context(1ULL << 40, 11);
    set_context(5, descriptor);
    check_seen(5, HERE, -FAULTED, "TTB0 beyond IPS");
    check_event(bad(C_BAD_CD, 5), "C_BAD_CD");
    attach_entry(stream_entry(STE_STAGE1, descriptors, 6, 0, 0));
    check_seen(1, HERE, 0x41, "S1DSS 0: with a PASID");
    check_seen(PLAIN, HERE, -FAULTED, "and not without");
    check_event(bad(F_STREAM_DISABLED, PLAIN), "F_STREAM_DISABLED");
    attach_entry(stream_entry(STE_STAGE1, descriptors, 6, 0, 1));
    check_seen(1, HERE, 0x41, "S1DSS 1: with a PASID");
    check(copy_by(COPY_IN, PLAIN, pages[1], 64) == DONE &&
              copy_by(COPY_OUT, PLAIN, mirror, 64) == DONE && *(char *)at(mirror) == 0x42,
          "without, stage 2 alone");
    section("two levels of descriptors");
    *((uint64_t *)at(upper) + 3) = lower | 1;
    attach_entry(stream_entry(STE_STAGE1, upper, 13, 2, 2));
    descriptor = context(spaces[0], 11);
    memcpy((struct descriptor *)at(lower) + 7, &descriptor, sizeof(descriptor));
    check_seen(3 * 1024 + 7, HERE, 0x41, "of 1024");
    check_seen(7, HERE, -FAULTED, "where there is no lower table");
    check_event(bad(C_BAD_SUBSTREAMID, 7), "C_BAD_SUBSTREAMID");
    attach_entry(stream_entry(STE_STAGE1, upper, 8, 1, 2));
    check_seen(3 * 64 + 7, HERE, 0x41, "of 64");
    attach_entry(stream_entry(STE_STAGE1, descriptors, 0, 0, 0));
    check_seen(1, HERE, -FAULTED, "one descriptor has no PASIDs");
    check_event(bad(C_BAD_SUBSTREAMID, 1), "C_BAD_SUBSTREAMID");
    attach_entry(stream_entry(STE_STAGE1, descriptors, 6, 0, 2));
}

static void try_command(uint64_t first, uint64_t second, const char *what)
{
    struct smmu_command bad_command = {{first, second}};
    uint32_t count = 1;

    check(send(&bad_command, &count) && errno == EIO && count == 0, "%s: EIO", what);
}

static void bad_commands(void)
{
    struct smmu_command three[3] = {tlbi(NH_VA, 11, HERE), tlbi(0x28, 0, 0), tlbi(NH_ALL, 0, 0)};
    struct smmu_command many[70];
    uint32_t count = 3;

    section("commands that are refused");
    try_command(0x03 | (uint64_t)VIRTUAL_STREAM << 32, 1, "CFGI_STE");
    try_command(0x28, 0, "S12_VMALL");
    try_command(0x2a, HERE, "S2_IPA");
    try_command(0x46, 0, "SYNC");
    try_command(0, 0, "no operation");
    try_command(NSNH_ALL | 1ULL << 32, 0, "NSNH_ALL with a VMID");
    try_command(NH_ALL | 1ULL << 48, 0, "NH_ALL with an ASID");
    try_command(NH_VAA | 1ULL << 48, HERE, "NH_VAA with an ASID");
    try_command(NH_VA, HERE | 2, "a bit below the address");
    try_command(NH_VA | 1 << 12, HERE, "a range without granule");
    try_command(NH_VA, HERE | 1 << 8, "a level without granule");
    try_command(NH_VA, HERE | 1 << 10, "a granule without range or level");
    try_command(NH_VA | 1 << 12, HERE | 2 << 10 | 1 << 8, "16 KiB at level 1");
    try_command(NH_VA | 1 << 25, HERE | 1 << 10, "a wide scale");
    try_command(CFGI_CD | 1 << 10 | (uint64_t)VIRTUAL_STREAM << 32, 0, "Secure");
    try_command(CFGI_CD | 1 << 11 | (uint64_t)VIRTUAL_STREAM << 32, 0, "CFGI_CD with SSV");
    try_command(CFGI_CD | 99ULL << 32, 0, "a stream that the guest does not have");
    try_command(CFGI_CD_ALL | 1 << 12 | (uint64_t)VIRTUAL_STREAM << 32, 0, "CFGI_CD_ALL with a PASID");
    try_command(ATC_INV | (uint64_t)VIRTUAL_STREAM << 32, 52, "ATC_INV without ATS");

    section("as far as it gets");
    turn(0);
    command(tlbi(NSNH_ALL, 0, 0));
    load_all();
    turn(1);
    check(send(three, &count) && errno == EIO && count == 1, "good, bad, good: EIO, and 1 is told");
    check(renewed() == 0, "but nothing was sent");
    for (int i = 0; i != 70; i++)
        many[i] = i == 69 ? three[1] : three[0];
    count = 70;
    check(send(many, &count) && errno == EIO && count == 69, "69 good ones first");
    check(renewed() == 1, "and a whole batch is sent");
    count = 0;
    check(send(three, &count) && errno == EINVAL, "none: EINVAL");
}

static void losses(void)
{
    struct iommufd_vevent_header header;
    struct event event;

    section("events that are lost");
    for (int i = 0; i != 6; i++)
        seen(1, THERE + i * PAGE);
    for (int i = 0; i != 4; i++)
        check_event(fault(F_TRANSLATION, 1, THERE + i * PAGE, true), "one of four");
    check(read(event_queue, &event, sizeof(event)) == sizeof(header), "then a header alone");
    memcpy(&header, &event, sizeof(header));
    check(header.flags == IOMMU_VEVENTQ_FLAG_LOST_EVENTS && header.sequence == next_number + 1,
          "which tells that two are lost");
    next_number += 2;
    seen(1, THERE);
    check_event(fault(F_TRANSLATION, 1, THERE, true), "the next has the next number");
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
    check(copy_by(COPY_IN, PLAIN, pages[0], 64) == DONE, "reads without");
    check(copy_by(COPY_OUT, 7, mirror, 64) == DONE && *(char *)at(mirror) == 0x41, "writes with");
    check(copy_by(COPY_IN, 8, pages[0], 64) == FAULTED, "another PASID is nobody's");
    attach_pasid(stage1, 1 << 16, EINVAL, "more bits than the device has");
    other = nested(stream_entry(STE_STAGE1, descriptors, 6, 0, 2));
    check(attach_to(other) == EINVAL, "a guest's table beside a PASID: EINVAL");
    ioctl(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &plain);
    check(copy_by(COPY_IN, PLAIN, pages[0], 64) == FAULTED, "detached without PASID");
    check(copy_by(COPY_IN, 7, pages[0], 64) == DONE, "still with");
    check(attach_to(parent) == EINVAL, "stage 2 beside a PASID: EINVAL");
    detach_all(7);
    check(copy_by(COPY_IN, 7, pages[0], 64) == FAULTED, "detached with PASID");
    check(attach_to(parent) == 0 && copy_by(COPY_IN, PLAIN, pages[0], 64) == DONE, "stage 2 alone");
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

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared virtual addressing on a VFIO container, by the extension vfio-sva: a guest's page tables
 * are bound to PASIDs, by which the devices of the container then access the guest's address
 * spaces.
 */
#include "guest/sva.h"

static void test_container(void)
{
    struct vfio_iommu_type1_dma_map map = {.argsz = sizeof(map),
                                           .flags =
                                               VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
                                           .vaddr = (uintptr_t)guest.memory,
                                           .iova = GUEST,
                                           .size = GUEST_LENGTH};
    struct vfio_iommu_type1_dma_unmap unmap = {
        .argsz = sizeof(unmap), .iova = GUEST, .size = GUEST_LENGTH};
    int fd = guest.iommufd;

    section("a container");
    check_number((uint64_t)ioctl(fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1_NESTING_IOMMU), 1,
                 "VFIO_TYPE1_NESTING_IOMMU is there");
    check_errno(ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1_NESTING_IOMMU), ENODEV, "without an IOAS");
    check_errno(bind_table(pasids[0], roots[0]), ENODEV, "a table without an IOAS");
    check_errno(set_container(IOMMU_VFIO_IOAS_SET), 0, "IOMMU_VFIO_IOAS");
    check_errno(ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0, "VFIO_TYPE1v2_IOMMU");
    check_errno(ioctl(fd, VFIO_IOMMU_UNMAP_DMA, &unmap), 0, "the guest's memory is unmapped");
    check_errno(ioctl(fd, VFIO_IOMMU_MAP_DMA, &map), 0, "and mapped");
    check_errno(bind_table(pasids[0], roots[0]), EINVAL, "a table without a device");
    check_errno(attach_to(&device, guest.ioas, NO_PASID), 0, "a device is attached");
    check_errno(bind_table(pasids[0], roots[0]), EINVAL, "its table cannot be nested on");
    check_errno(ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1_NESTING_IOMMU), EBUSY, "nor can it be changed");
    check_errno(ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0, "which is no matter for the same");
    check_errno(detach(&device, NO_PASID), 0, "it is detached");
    check_errno(ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1_NESTING_IOMMU), 0, "VFIO_TYPE1_NESTING_IOMMU");
    attach_devices();
    check_errno(ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), EBUSY, "and back, with devices");
}

static void test_bindings(void)
{
    uint32_t pasid = pasids[0];
    struct iommu_gpasid_bind_data data;

    section("tables on PASIDs");
    map_data_page(&guest, roots[0], IOVA, 0);
    map_data_page(&guest, roots[1], IOVA, 1);
    check_number(can_read(&device, pasid, IOVA) || can_read(&plain, pasid, IOVA), 0,
                 "nothing is there before");
    check_errno(bind_table(pasid, roots[0]), 0, "a table is bound");
    check_number(read_byte_by_pasid(&device, pasid, IOVA), 1, "a device reads through it");
    check_number(read_byte_by_pasid(&plain, pasid, IOVA), 1, "and so does the other");
    check_number(can_read(&device, pasids[1], IOVA), 0, "not by another PASID");
    check_errno(bind_table(pasid, roots[1]), EBUSY, "it is bound already");
    check_number(read_byte_by_pasid(&device, pasid, IOVA), 1, "and stays");
    check_errno(attach_to(&device, guest.ioas, PASID(pasid)), EBUSY, "VFIO cannot attach it");
    check_errno(detach(&device, PASID(pasid)), 0, "nor detach it");
    check_number(can_read(&device, pasid, IOVA), 1, "it stays");
    check_errno(unbind(pasid), 0, "it is unbound");
    check_number(can_read(&device, pasid, IOVA) || can_read(&plain, pasid, IOVA), 0,
                 "nothing is read");
    check_errno(unbind(pasid), EINVAL, "again");

    check_errno(bind_table(pasid, roots[0]), 0, "it is bound again");
    check_errno(free_pasid(guest.iommufd, pasid), 0, "and the PASID freed");
    check_number(can_read(&device, pasid, IOVA) || can_read(&plain, pasid, IOVA), 0,
                 "nothing is read");
    check_errno(allocate_pasid(guest.iommufd, pasid, pasid, NULL), 0,
                "the PASID is allocated again");
    check_errno(bind_table(pasid, roots[1]), 0, "for another table");
    check_errno(detach(&device, NO_PASID), 0, "a device leaves the container");
    check_number(can_read(&device, pasid, IOVA), 0, "without the table");
    check_number(can_read(&plain, pasid, IOVA), 1, "the other has it");
    check_errno(attach_to(&device, guest.ioas, NO_PASID), 0, "it comes back");
    check_number(can_read(&device, pasid, IOVA), 0, "without the table");
    check_errno(bind_table(pasid, roots[1]), EBUSY, "which is bound for the other");
    check_errno(unbind(pasid), 0, "it is unbound");

    data = table_data(pasid, roots[0]);
    data.vendor.vtd.flags = IOMMU_SVA_VTD_GPASID_SRE | IOMMU_SVA_VTD_GPASID_WPE;
    data.flags = IOMMU_SVA_GPASID_VAL;
    data.gpasid = 77;
    check_errno(bind_data(data), 0, "a table for privileged requests, too");
    check_number(dma_read(&device, IOVA, 8, PASID(pasid) | PRIVILEGED), COMPLETED,
                 "which are read");
    check_errno(unbind(pasid), 0, "it is unbound");
    check_errno(bind_table(pasid, roots[0]), 0, "one that is not");
    check_number(dma_read(&device, IOVA, 8, PASID(pasid) | PRIVILEGED) == COMPLETED, 0,
                 "refuses privilege");
    check_errno(unbind(pasid), 0, "it is unbound");
    drain_faults(&device);
    drain_faults(&plain);
}

static int bind_elsewhere(void) { return bind_table(pasids[0], roots[0]) ? errno : 0; }
static int unbind_elsewhere(void) { return unbind(pasids[0]) ? errno : 0; }

static void test_refused_bindings(void)
{
    struct iommu_gpasid_bind_data good = table_data(pasids[0], roots[0]);
    const uint32_t whole = 8 + sizeof(good);

    section("tables that are refused");
    check_errno(bind_as(whole, 0, good), EINVAL, "neither to bind nor to unbind");
    check_errno(bind_as(whole, 3, good), EINVAL, "both");
    check_errno(bind_as(whole, 5, good), EINVAL, "an unknown flag");
    check_errno(bind_as(7, 1, good), EINVAL, "argsz without data");
    check_errno(bind_as(whole - 1, 1, good), EINVAL, "argsz short of the data");
    CHECK_CHANGED(bind_data, good, .argsz = 55, EINVAL,
                  "the data's argsz short of the vendor's part");
    CHECK_CHANGED(bind_data, good, .argsz -= 8, EINVAL, "short of its end");
    CHECK_CHANGED(bind_data, good, .version = 0, EINVAL, "version 0");
    CHECK_CHANGED(bind_data, good, .version = 2, EINVAL, "version 2");
    CHECK_CHANGED(bind_data, good, .format = 0, EINVAL, "no format");
    CHECK_CHANGED(bind_data, good, .format = IOMMU_PASID_FORMAT_LAST, EINVAL, "another format");
    CHECK_CHANGED(bind_data, good, .flags = 2, EINVAL, "an unknown flag of the data");
    CHECK_CHANGED(bind_data, good, .padding[7] = 1, EINVAL, "padding that is not zero");
    for (unsigned bit = 0; bit != 8; bit++) {
        bool is_known = bit == 0 || bit == 1 || bit == 6;

        CHECK_CHANGED(bind_data, good, .vendor.vtd.flags = 1u << bit, is_known ? 0 : EINVAL,
                      "bit %u of the vendor's flags", bit);
        if (is_known)
            unbind(pasids[0]);
    }
    CHECK_CHANGED(bind_data, good, .addr_width = 39, EINVAL, "an address width of 39");
    CHECK_CHANGED(bind_data, good, .gpgd = 1UL << 57, EINVAL,
                  "a table where no guest can have memory");
    CHECK_CHANGED(bind_data, good, .hpasid = 0, EINVAL, "PASID 0");
    CHECK_CHANGED(bind_data, good, .hpasid = LAST_PASID + 1, EINVAL, "a PASID of 21 bits");
    CHECK_CHANGED(bind_data, good, .hpasid += 1UL << 32, EINVAL, "a PASID of 33 bits");
    CHECK_CHANGED(bind_data, good, .hpasid = 4711, ENOENT, "a PASID that is not allocated");
    check_number((uint64_t)in_other_process(bind_elsewhere), EACCES, "another process's PASID");
    check_errno(allocate_pasid(guest.iommufd, 0x3ff, 0x3ff, NULL), 0,
                "the PASID that VFIO has attached");
    check_errno(bind_table(0x3ff, roots[0]), EBUSY, "is taken");
    check_errno(free_pasid(guest.iommufd, 0x3ff), 0, "it is freed");
    check_number(dma_write(&device, GUEST + STAGING, 8, STAGING_PASID), COMPLETED,
                 "and still attached");
    check_errno(bind_data(good), 0, "and one that is right");
    check_number((uint64_t)in_other_process(unbind_elsewhere), EACCES,
                 "which another process may not unbind");
    check_errno(unbind(pasids[0]), 0, "it is unbound");
}

/** HWPTs that the client allocates, instead of those that attaching to an IOAS allocates. */
static void test_client_tables(void)
{
    uint32_t flags = IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_ALLOC_PASID, pasid = pasids[0];
    uint32_t nested, in_other_process, ioas = guest.ioas;
    struct iommu_ioas_alloc other = {.size = sizeof(other)};

    section("tables of the client's own making");
    if (detach(&device, NO_PASID) || detach(&plain, NO_PASID))
        fatal("detach: %s", strerror(errno));
    guest.parent = allocate_paging(&guest, &device, flags);
    nested = vtd_make_nested(&guest, &device, roots[1]);
    check_errno(attach_to(&device, guest.parent, NO_PASID), 0, "one that can be nested on");
    check_errno(bind_table(pasid, roots[0]), 0, "is nested on");
    check_number(read_byte_by_pasid(&device, pasid, IOVA), 1, "and read through");
    check_errno(attach_to(&device, nested, NO_PASID), 0, "one that is nested takes its place");
    check_number(read_byte_by_pasid(&device, pasid, IOVA), 1, "the PASID's stays");
    check_number(read_byte(&guest, &device, IOVA, NO_PASID), 2, "beside it");
    check_errno(unbind(pasid), 0, "it is unbound");
    check_errno(bind_table(pasid, roots[0]), 0, "and bound to what the nested one stands on");
    check_number(read_byte_by_pasid(&device, pasid, IOVA), 1, "it is read through");
    if (ioctl(guest.iommufd, IOMMU_IOAS_ALLOC, &other))
        fatal("IOAS_ALLOC: %s", strerror(errno));
    guest.ioas = other.out_ioas_id;
    in_other_process = allocate_paging(&guest, &device, flags);
    guest.ioas = ioas;
    check_errno(attach_to(&device, in_other_process, NO_PASID), 0, "a table of another IOAS");
    check_number(can_read(&device, pasid, IOVA), 0, "has nothing of the container's");
    check_errno(unbind(pasid), EINVAL, "nothing is bound");
    if (detach(&device, NO_PASID))
        fatal("detach: %s", strerror(errno));
    destroy_object(guest.iommufd, nested);
    destroy_object(guest.iommufd, guest.parent);
    if (attach_to(&device, guest.ioas, NO_PASID) || attach_to(&plain, guest.ioas, NO_PASID))
        fatal("attach: %s", strerror(errno));
    drain_faults(&device);
}

/** A PASID that was allocated by another open file of this process. */
static void test_two_files(void)
{
    int other = open_iommufd();
    uint32_t pasid;

    section("a table on another file's PASID");
    if (allocate_pasid(other, 2000, 2000, &pasid))
        fatal("no PASID");
    check_errno(bind_table(pasid, roots[0]), 0, "is bound");
    check_errno(free_pasid(other, pasid), EBUSY, "the other file cannot free it");
    close(other);
    check_number(can_read(&device, pasid, IOVA), 1, "the file is closed and the table there");
    check_errno(allocate_pasid(guest.iommufd, pasid, pasid, NULL), ENOSPC,
                "and the PASID not free");
    check_errno(unbind(pasid), 0, "until it is unbound");
    check_errno(free_pasid(guest.iommufd, pasid), ENOENT, "then it is");
}

/* ---- unmapping and closing ---------------------------------------------------------------- */

/** Unmapping from the container takes effect at once, without an invalidation by the guest. */
static void test_unmapping(void)
{
    struct vfio_iommu_type1_dma_unmap unmap = {
        .argsz = sizeof(unmap), .iova = GUEST, .size = GUEST_LENGTH};

    section("memory that is taken from the guest");
    if (bind_table(pasids[0], roots[0]) || bind_table(pasids[1], roots[1]))
        fatal("VFIO_IOMMU_BIND: %s", strerror(errno));
    check_number(can_read(&device, pasids[0], IOVA) && can_read(&plain, pasids[1], IOVA), 1,
                 "it is there");
    check_errno(ioctl(guest.iommufd, VFIO_IOMMU_UNMAP_DMA, &unmap), 0, "VFIO_IOMMU_UNMAP_DMA");
    check_number(can_read(&device, pasids[0], IOVA) || can_read(&plain, pasids[1], IOVA), 0,
                 "and gone");
}

static void test_closing(void)
{
    int fd;
    uint32_t first = pasids[0], pasid;

    section("files are closed");
    close(device.fd);
    check_errno(allocate_pasid(guest.iommufd, first, first, &pasid), ENOSPC,
                "a device is closed: its PASIDs are allocated");
    close(guest.iommufd);
    fd = open_iommufd();
    check_errno(allocate_pasid(fd, first, first, &pasid), ENOSPC,
                "the iommufd: they are, as a device still has them");
    close(plain.fd);
    check_errno(allocate_pasid(fd, first, first, &pasid), 0, "the last device: they are free");
    close(fd);
}

int main(void)
{
    set_up_sva();
    test_container();
    test_bindings();
    test_refused_bindings();
    test_two_files();
    test_client_tables();
    test_unmapping();
    test_closing();
    return checks_exit_status();
}

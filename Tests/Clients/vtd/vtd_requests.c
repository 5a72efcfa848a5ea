/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device with ATS and PRI behind a VT-d unit: a denied translation is no fault; which fault queue
 * gets a page request; and the effect of each answer.
 */
#include "guest/vtd.h"

#include "vfio/page_requests.h"

#define IOVA 0x7000000000UL

static struct guest guest;
static struct test_device device;
static int queue;
static uint32_t queue_id;

/** ATS without PRI: the HWPT has no fault queue. */
static void test_without_queue(uint64_t root)
{
    uint32_t hwpt = vtd_make_nested(&guest, &device, root);

    section("nobody to ask");
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "a nested table without a queue");
    map_page(&guest, root, IOVA, data_page(0), USER);
    map_page(&guest, root, IOVA + PAGE, data_page(1), P | US);
    check_number(read_byte(&guest, &device, IOVA, NO_PASID), 1, "a page is read");
    check_number(dma_read(&device, IOVA + 9 * PAGE, 8, NO_PASID), DENIED,
                 "one that is absent is not");
    check_number(dma_write(&device, IOVA + PAGE, 8, NO_PASID), DENIED,
                 "a read-only one is not written");
    check_number(read_byte(&guest, &device, IOVA + PAGE, NO_PASID), 2, "but read");
    check_number(drain_faults(&device), 0, "the unit records nothing of it");
    check_number(dma_read(&device, IOVA, 8, PASID(77)), FAULTED,
                 "a PASID without a table is a fault");
    check_number(drain_faults(&device), 1, "the unit records that");
    *entry_at(&guest, root, IOVA + 2 * PAGE, 0) = 0;
    *entry_at(&guest, root, 9UL << 39, 3) = GUEST | USER | PS;
    check_number(dma_read(&device, 9UL << 39, 8, NO_PASID), FAULTED, "and so is a reserved bit");

    struct iommufd_sim_fault fault = {0};

    read_fault(&device, &fault);
    check_number(fault.reason, FIRST_RESERVED, "its reason");
    check_number(fault.raw[1] >> 60 & 3, 1, "AT: of a translation request");
    *entry_at(&guest, root, 9UL << 39, 3) = 0;
    check_errno(detach(&device, NO_PASID), 0, "detached");
    destroy_object(guest.iommufd, hwpt);
}

static void test_answers(uint64_t root, uint32_t hwpt, uint32_t attributes)
{
    uint64_t *entry = map_page(&guest, root, IOVA, 0, 0);
    uint32_t cookie;

    section(attributes ? "answers by PASID" : "answers by requester id");
    vtd_invalidate_all(&guest, hwpt);
    check_number(dma_read(&device, IOVA + 16, 8, attributes), RUNNING, "the device waits");
    check_number(is_request_waiting(), 1, "the queue has something");
    cookie = expect_request(IOVA, attributes, IOMMU_PGFAULT_PERM_READ, true, "one request");
    check_number(is_request_waiting(), 0, "and nothing more");
    *entry = data_page(4) | USER;
    check_number(dma_status(&device), RUNNING, "the page alone is no answer");
    check_number(answer_request(cookie, IOMMUFD_PAGE_RESP_SUCCESS), sizeof(uint64_t), "success");
    check_number(dma_status(&device), COMPLETED, "the device goes on");
    check_number(device_buffer_word(&guest, &device), 0x0505050505050505, "with the page's data");
    check_errno(answer_request(cookie, IOMMUFD_PAGE_RESP_SUCCESS), EINVAL, "an answer too many");

    entry = map_page(&guest, root, IOVA + PAGE, 0, 0);
    check_number(dma_write(&device, IOVA + PAGE, 8, attributes), RUNNING, "writing waits, too");
    cookie = expect_request(IOVA + PAGE, attributes, IOMMU_PGFAULT_PERM_WRITE, true, "to write");
    *entry = data_page(5) | P | US;
    answer_request(cookie, IOMMUFD_PAGE_RESP_SUCCESS);
    check_number(dma_status(&device), RUNNING, "a page that cannot be written is asked for again");
    cookie = expect_request(IOVA + PAGE, attributes, IOMMU_PGFAULT_PERM_WRITE, true, "once more");
    answer_request(cookie, IOMMUFD_PAGE_RESP_INVALID);
    check_number(dma_status(&device), DENIED, "invalid: the device gives up");
    check_number(*guest_word(&guest, data_page(5)) & 0xff, 6, "no byte moved");
}

/** A page request group is read as a whole or not at all, and answered as a whole. */
static void test_groups(uint64_t root, uint32_t hwpt, uint32_t attributes)
{
    struct iommu_hwpt_pgfault faults[2] = {0};

    section("a group of two");
    dma_read(&device, IOVA + 5 * PAGE - 4, 8, attributes);
    check_errno(read(queue, faults, sizeof(*faults)), EINVAL, "room for one");
    check_number((uint64_t)read(queue, faults, sizeof(faults)), sizeof(faults), "room for two");
    check_number(faults[0].addr, IOVA + 4 * PAGE, "the first page");
    check_number(faults[1].addr, IOVA + 5 * PAGE, "the second page");
    check_number(faults[0].flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE, 0, "the first is not the last");
    check_number(faults[1].flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE, IOMMU_PGFAULT_FLAGS_LAST_PAGE,
                 "the second is");
    check_number(faults[0].grpid == faults[1].grpid && faults[0].cookie == faults[1].cookie, 1,
                 "they are of one group");
    map_page(&guest, root, IOVA + 4 * PAGE, data_page(0), USER);
    map_page(&guest, root, IOVA + 5 * PAGE, data_page(1), USER);
    answer_request(faults[0].cookie, IOMMUFD_PAGE_RESP_SUCCESS);
    check_number(dma_status(&device), COMPLETED, "one answer is for both");
    check_number(device_buffer_word(&guest, &device), 0x0202020201010101, "the data of both");
    map_page(&guest, root, IOVA + 4 * PAGE, 0, 0);
    map_page(&guest, root, IOVA + 5 * PAGE, 0, 0);
    vtd_invalidate_all(&guest, hwpt);
}

static void test_privilege(uint32_t attributes)
{
    section("privilege");
    check_number(dma_read(&device, IOVA + 6 * PAGE, 8, attributes | PRIVILEGED), DENIED,
                 "a privileged request is never passed on");
    check_number(is_request_waiting(), 0, "the queue stays empty");
}

static void test_ends_of_waits(uint64_t root, uint32_t hwpt)
{
    struct iommu_hwpt_pgfault fault;

    section("what ends a wait");
    check_number(dma_read(&device, IOVA + 7 * PAGE, 8, NO_PASID), RUNNING,
                 "a request that is not read");
    check_errno(detach(&device, NO_PASID), 0, "the device is detached");
    check_number(dma_status(&device), DENIED, "the device is told no");
    check_number(is_request_waiting(), 0, "the queue is empty");
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "attached again");
    dma_read(&device, IOVA + 7 * PAGE, 8, NO_PASID);
    check_number((uint64_t)read(queue, &fault, sizeof(fault)), sizeof(fault), "one that is read");
    check_errno(detach(&device, NO_PASID), 0, "the device is detached");
    check_number(dma_status(&device), DENIED, "the device is told no");
    check_errno(answer_request(fault.cookie, IOMMUFD_PAGE_RESP_SUCCESS), EINVAL,
                "the answer comes too late");
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "attached again");
    dma_read(&device, IOVA + 7 * PAGE, 8, NO_PASID);
    check_number((uint64_t)read(queue, &fault, sizeof(fault)), sizeof(fault), "another");
    check_errno(ioctl(device.fd, VFIO_DEVICE_RESET), 0, "the device is reset");
    check_number(dma_status(&device), RUNNING, "it has forgotten what it did");
    map_page(&guest, root, IOVA + 7 * PAGE, data_page(7), USER);
    check_number(answer_request(fault.cookie, IOMMUFD_PAGE_RESP_SUCCESS), sizeof(uint64_t),
                 "the answer is taken");
    check_number(read_register(&device, TEST_DEVICE_COMMAND) & RUN, 0, "and means nothing to it");
}

/** A paging HWPT with a fault queue: the device requests pages that are not mapped in the IOAS. */
static void test_kernel_table(void)
{
    struct iommu_ioas_map map;
    struct iommu_ioas_alloc ioas = {.size = sizeof(ioas)};
    uint32_t hwpt, cookie;

    section("a table of ours");
    if (ioctl(guest.iommufd, IOMMU_IOAS_ALLOC, &ioas))
        fatal("IOAS_ALLOC: %s", strerror(errno));
    check_errno(allocate_hwpt(guest.iommufd, device.id, ioas.out_ioas_id,
                              IOMMU_HWPT_FAULT_ID_VALID | IOMMU_HWPT_ALLOC_PASID, 0, NULL, 0,
                              queue_id, &hwpt),
                0, "with a queue");
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "attached");
    uint16_t command = 6;
    struct vfio_region_info region = {.argsz = sizeof(region),
                                      .index = VFIO_PCI_CONFIG_REGION_INDEX};

    ioctl(device.fd, VFIO_DEVICE_GET_REGION_INFO, &region);
    if (pwrite(device.fd, &command, 2, (off_t)region.offset + 4) != 2)
        fatal("the command register: %s", strerror(errno));
    check_number(dma_read(&device, IOVA, 8, NO_PASID), RUNNING, "the device waits");
    cookie = expect_request(IOVA, NO_PASID, IOMMU_PGFAULT_PERM_READ, true, "the request");
    map = map_arguments(ioas.out_ioas_id, (uintptr_t)guest.memory + DATA, PAGE,
                        MAP_FLAGS & ~IOMMU_IOAS_MAP_WRITEABLE, IOVA);
    check_errno(ioctl(guest.iommufd, IOMMU_IOAS_MAP, &map), 0, "IOAS_MAP");
    answer_request(cookie, IOMMUFD_PAGE_RESP_SUCCESS);
    check_number(dma_status(&device), COMPLETED, "the device goes on");
    check_number(device_buffer_word(&guest, &device) & 0xff, 1, "with the data");
    detach(&device, NO_PASID);
    destroy_object(guest.iommufd, hwpt);
}

static void test_device_without_pri(int iommufd, uint64_t root)
{
    struct test_device plain = vtd_find_device(iommufd, false);
    struct iommu_hwpt_vtd_s1 data = {.pgtbl_addr = root, .addr_width = 48};
    uint32_t nested = vtd_make_nested_with(&guest, &plain, data, queue_id), paging_hwpt;

    section("a device that cannot ask");
    check_errno(attach_to(&plain, nested, NO_PASID), ENODEV, "is not attached with a queue");
    check_errno(attach_to(&plain, nested, PASID(5)), ENODEV, "nor for a PASID");
    data.addr_width = 0;
    destroy_object(iommufd, nested);
    nested = vtd_make_nested_with(&guest, &plain, data, queue_id);
    check_errno(attach_to(&plain, nested, NO_PASID), ENODEV, "which is said before bad widths");
    destroy_object(iommufd, nested);
    allocate_hwpt(iommufd, plain.id, guest.ioas, IOMMU_HWPT_FAULT_ID_VALID, 0, NULL, 0, queue_id,
                  &paging_hwpt);
    check_errno(attach_to(&plain, paging_hwpt, NO_PASID), ENODEV, "nor to a table of ours");
    destroy_object(iommufd, paging_hwpt);
}

int main(void)
{
    struct iommu_hwpt_vtd_s1 data = {.addr_width = 48, .flags = IOMMU_VTD_S1_SRE};
    struct iommu_hw_info_vtd vtd;
    struct iommu_hw_info info;
    int iommufd = open_iommufd();
    uint32_t hwpt;
    uint64_t root;

    device = vtd_find_device(iommufd, true);
    guest = vtd_make_guest(iommufd, &device, true, 0);
    root = allocate_table(&guest);
    queue = open_request_queue(iommufd, &device, &queue_id);
    hardware_info(iommufd, device.id, &vtd, sizeof(vtd), &info);
    check_number(vtd.ecap_reg >> 2 & 1 && vtd.ecap_reg >> 29 & 1 && vtd.ecap_reg >> 42 & 1, 1,
                 "DT, PRS and PDS");
    check_number(info.out_capabilities & IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED, 0, "ATS is there");

    test_without_queue(root);
    data.pgtbl_addr = root;
    hwpt = vtd_make_nested_with(&guest, &device, data, queue_id);
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "a nested table with a queue");
    check_errno(attach_to(&device, hwpt, PASID(5)), 0, "and for a PASID");
    test_answers(root, hwpt, NO_PASID);
    test_answers(root, hwpt, PASID(5));
    test_groups(root, hwpt, NO_PASID);
    test_groups(root, hwpt, PASID(5));
    test_privilege(PASID(5));
    test_ends_of_waits(root, hwpt);
    detach(&device, NO_PASID);
    detach(&device, PASID(5));
    test_kernel_table();
    test_device_without_pri(iommufd, root);
    return checks_exit_status();
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device with ATS and PRI (PPR) behind an AMD-Vi unit: its device TLB with the kernel's page
 * tables and with a guest's, and page requests, which are only reported for a guest's page tables.
 */
#include "guest/amd.h"

#include "vfio/page_requests.h"

#define IOVA 0x7000000000UL

static struct guest guest;
static struct test_device device;
static uint32_t queue_id;

/**
 * Returns the byte that the device reads. The device writes its buffer back by the same attributes.
 */
static uint64_t read_by(uint64_t iova, uint32_t attributes)
{
    guest.staging = attributes;
    return read_byte(&guest, &device, iova, attributes);
}

static struct iommu_ioas_map page_map(uint64_t iova, uint64_t from)
{
    return map_arguments(guest.ioas, (uintptr_t)guest_word(&guest, from), PAGE, MAP_FLAGS, iova);
}

static void unmap(uint64_t iova)
{
    struct iommu_ioas_unmap cmd = unmap_arguments(guest.ioas, iova, PAGE);

    if (ioctl(guest.iommufd, IOMMU_IOAS_UNMAP, &cmd))
        fatal("IOAS_UNMAP: %s", strerror(errno));
}

/** Unmapping invalidates the device TLB for the range, and leaves its other translations. */
static void test_kernel_table(uint32_t flags, uint32_t fault, const char *title)
{
    struct iommu_ioas_map map = page_map(IOVA, data_page(0));
    uint32_t hwpt;

    section(title);
    check_errno(allocate_hwpt(guest.iommufd, device.id, guest.ioas,
                              flags | (fault ? IOMMU_HWPT_FAULT_ID_VALID : 0), 0, NULL, 0, fault,
                              &hwpt),
                0, fault ? "a queue for page requests" : "a table");
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "is attached");
    drain_faults(&device);
    check_number(dma_read(&device, IOVA, 8, NO_PASID), DENIED, "a hole is an answer");
    check_number(drain_faults(&device), 0, "and no event");
    check_errno(ioctl(guest.iommufd, IOMMU_IOAS_MAP, &map), 0, "IOAS_MAP");
    check_number(read_by(IOVA, NO_PASID), 1, "it is read");
    check_number(read_by(data_page(3), NO_PASID), 4, "and another page");
    unmap(IOVA);
    check_number(dma_read(&device, IOVA, 8, NO_PASID), DENIED,
                 "unmapped: the device has forgotten it");
    map = page_map(IOVA, data_page(1));
    check_errno(ioctl(guest.iommufd, IOMMU_IOAS_MAP, &map), 0, "IOAS_MAP");
    check_number(read_by(IOVA, NO_PASID), 2, "the new page is read");
    unmap(IOVA);
    check_number(dma_read(&device, IOVA, 8, PASID(5)), DENIED, "a PASID is nobody's");
    check_number(is_request_waiting(), 0, "nobody is asked");
    check_errno(detach(&device, NO_PASID), 0, "detached");
    dma_read(&device, IOVA, 8, NO_PASID);
    amd_check_event(&device, IO_PAGE_FAULT, DETACHED, IOVA, IOVA, NO_PASID,
                    "without ATS it is an event");
    destroy_object(guest.iommufd, hwpt);
}

static uint32_t nested(struct iommu_hwpt_amd_guest data, uint32_t fault)
{
    uint32_t hwpt;

    if (allocate_hwpt(guest.iommufd, device.id, guest.viommu,
                      fault ? IOMMU_HWPT_FAULT_ID_VALID : 0, IOMMU_HWPT_DATA_AMD_GUEST, &data,
                      sizeof(data), fault, &hwpt))
        fatal("HWPT_ALLOC of a nested table: %s", strerror(errno));
    return hwpt;
}

/** The I bit of a guest's device table entry allows the device to use ATS. */
static void test_stale_translations(uint64_t gcr3, uint64_t root, uint32_t pasid)
{
    struct iommu_hwpt_amd_guest data = guest_dte(gcr3, 1, 0);
    uint32_t plain = nested(data, 0), hwpt;

    section("a guest's tables");
    data.dte[1] |= DTE_I;
    hwpt = nested(data, 0);
    map_page(&guest, root, IOVA, data_page(0), USER);
    check_errno(attach_to(&device, plain, NO_PASID), 0, "an entry without I");
    check_number(read_by(IOVA, pasid), 1, "a page is read");
    drain_faults(&device);
    dma_read(&device, IOVA + 9 * PAGE, 8, pasid);
    amd_check_event(&device, IO_PAGE_FAULT, EV_GN | EV_US, IOVA + 9 * PAGE, IOVA + 9 * PAGE, pasid,
                    "a hole is an event");
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "an entry with I");
    check_number(read_by(IOVA, pasid), 1, "a page is read");
    check_number(dma_read(&device, IOVA + 9 * PAGE, 8, pasid), DENIED, "a hole is an answer");
    check_number(drain_faults(&device), 0, "and no event");
    map_page(&guest, root, IOVA, data_page(1), USER);
    check_number(read_by(IOVA, pasid), 1, "it is moved: the old one is read");
    amd_flush_caches(&guest);
    check_number(read_by(IOVA, pasid), 2, "the parent changes: the new one");
    map_page(&guest, root, IOVA, data_page(2), USER);
    check_number(read_by(IOVA, pasid), 2, "it is moved again");
    check_errno(attach_to(&device, plain, NO_PASID), 0, "without I again");
    check_number(read_by(IOVA, pasid), 3, "the new one is read");
    map_page(&guest, root, IOVA, data_page(0), P | US);
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "with I");
    check_number(dma_read(&device, IOVA, 8, pasid), COMPLETED, "a read-only page is read");
    check_number(dma_write(&device, IOVA, 8, pasid), DENIED, "and not written");
    check_errno(detach(&device, NO_PASID), 0, "detached");
    destroy_object(guest.iommufd, plain);
    destroy_object(guest.iommufd, hwpt);
}

static void test_requests(uint64_t gcr3, uint64_t root, uint32_t pasid)
{
    struct iommu_hwpt_amd_guest data = guest_dte(gcr3, 1, DTE_PPR);
    uint64_t *entry = map_page(&guest, root, IOVA, 0, 0);
    uint32_t hwpt, cookie;

    section("a guest that is asked");
    data.dte[1] |= DTE_I;
    hwpt = nested(data, queue_id);
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "with I and PPR, and a queue");
    check_number(dma_read(&device, IOVA + 16, 8, pasid), RUNNING, "the device waits");
    cookie = expect_request(IOVA, pasid, IOMMU_PGFAULT_PERM_READ, true, "the guest is asked");
    *entry = data_page(4) | USER;
    check_number(answer_request(cookie, IOMMUFD_PAGE_RESP_SUCCESS), sizeof(uint64_t), "success");
    check_number(dma_status(&device), COMPLETED, "the device goes on");
    check_number(dma_write(&device, IOVA + PAGE, 8, pasid), RUNNING, "writing waits, too");
    cookie = expect_request(IOVA + PAGE, pasid, IOMMU_PGFAULT_PERM_WRITE, true, "to write");
    answer_request(cookie, IOMMUFD_PAGE_RESP_INVALID);
    check_number(dma_status(&device), DENIED, "invalid: the device gives up");
    check_number(dma_read(&device, SPARE, 8, NO_PASID), DENIED, "without PASID nobody is asked");
    check_number(is_request_waiting(), 0, "the queue is empty");
    check_number(dma_read(&device, IOVA, 8, PASID(3)), RUNNING, "a PASID without a table waits");
    cookie = expect_request(IOVA, PASID(3), IOMMU_PGFAULT_PERM_READ, true, "it is the guest's");
    answer_request(cookie, IOMMUFD_PAGE_RESP_INVALID);
    check_number(dma_status(&device), DENIED, "which has none");
    check_number(dma_read(&device, IOVA + 2 * PAGE, 8, pasid), RUNNING, "another waits");
    check_errno(detach(&device, NO_PASID), 0, "the device is detached");
    check_number(dma_status(&device), DENIED, "and told no");
    destroy_object(guest.iommufd, hwpt);
    data.dte[0] &= ~DTE_PPR;
    hwpt = nested(data, queue_id);
    check_errno(attach_to(&device, hwpt, NO_PASID), 0, "without PPR");
    check_number(dma_read(&device, IOVA + 2 * PAGE, 8, pasid), DENIED, "the device does not ask");
    check_number(is_request_waiting(), 0, "the queue is empty");
    detach(&device, NO_PASID);
    destroy_object(guest.iommufd, hwpt);
}

static bool has_ats(int iommufd, const struct test_device *candidate)
{
    struct iommu_hw_info_amd amd;
    struct iommu_hw_info info;

    return is_behind_amd(iommufd, candidate) &&
           !hardware_info(iommufd, candidate->id, &amd, sizeof(amd), &info) &&
           !(info.out_capabilities & IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED);
}

int main(void)
{
    int iommufd = open_iommufd();
    const uint32_t pasid = PASID(9);
    uint64_t gcr3, root;

    if (!find_wanted_device(iommufd, &device, has_ats))
        fatal("no device behind an AMD-Vi unit that translates for itself");
    guest = amd_make_guest(iommufd, &device, true);
    open_request_queue(iommufd, &device, &queue_id);
    test_kernel_table(0, 0, "a host table");
    test_kernel_table(IOMMU_HWPT_ALLOC_PASID, queue_id, "a guest table of the kernel's");

    gcr3 = allocate_table(&guest);
    root = allocate_table(&guest);
    guest_word(&guest, gcr3)[9] = root | 1;
    map_page(&guest, root, GUEST + STAGING, GUEST + STAGING, USER);
    test_stale_translations(gcr3, root, pasid);
    test_requests(gcr3, root, pasid);
    return checks_exit_status();
}

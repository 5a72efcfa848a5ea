/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/vtd.h"

uint32_t vtd_make_nested_with(const struct guest *guest, const struct test_device *device,
                              struct iommu_hwpt_vtd_s1 data, uint32_t fault)
{
    uint32_t hwpt, flags = IOMMU_HWPT_ALLOC_PASID | (fault ? IOMMU_HWPT_FAULT_ID_VALID : 0);

    if (allocate_hwpt(guest->iommufd, device->id, guest->parent, flags, IOMMU_HWPT_DATA_VTD_S1,
                      &data, sizeof(data), fault, &hwpt))
        fatal("HWPT_ALLOC of a nested table: %s", strerror(errno));
    return hwpt;
}

uint32_t vtd_make_nested(const struct guest *guest, const struct test_device *device, uint64_t root)
{
    return vtd_make_nested_with(
        guest, device, (struct iommu_hwpt_vtd_s1){.pgtbl_addr = root, .addr_width = 48}, 0);
}

long vtd_invalidate_entries(int iommufd, uint32_t hwpt, const void *entries, uint32_t length,
                            uint32_t *count)
{
    struct iommu_hwpt_invalidate cmd = invalidate_arguments(
        hwpt, IOMMU_HWPT_INVALIDATE_DATA_VTD_S1, entries, length, *count);
    long result = ioctl(iommufd, IOMMU_HWPT_INVALIDATE, &cmd);

    *count = cmd.entry_num;
    return result;
}

void vtd_invalidate(const struct guest *guest, uint32_t hwpt, uint64_t address, uint64_t pages,
                    uint32_t flags)
{
    struct iommu_hwpt_vtd_s1_invalidate entry = {.addr = address, .npages = pages, .flags = flags};
    uint32_t count = 1;

    if (vtd_invalidate_entries(guest->iommufd, hwpt, &entry, sizeof(entry), &count))
        fatal("HWPT_INVALIDATE: %s", strerror(errno));
}

void vtd_invalidate_all(const struct guest *guest, uint32_t hwpt)
{
    vtd_invalidate(guest, hwpt, 0, UINT64_MAX, 0);
}

static bool nests(int iommufd, const struct test_device *device, bool with_ats)
{
    struct iommu_hw_info_vtd vtd = {0};
    struct iommu_hw_info info;

    return !hardware_info(iommufd, device->id, &vtd, sizeof(vtd), &info) &&
           info.out_data_type == IOMMU_HW_INFO_TYPE_INTEL_VTD && vtd.ecap_reg >> 26 & 1 &&
           !(info.out_capabilities & IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED) == with_ats;
}

static bool nests_with_ats(int iommufd, const struct test_device *device)
{
    return nests(iommufd, device, true);
}

static bool nests_without_ats(int iommufd, const struct test_device *device)
{
    return nests(iommufd, device, false);
}

struct test_device vtd_find_device(int iommufd, bool with_ats)
{
    struct test_device device;

    if (!find_wanted_device(iommufd, &device, with_ats ? nests_with_ats : nests_without_ats))
        fatal("no device behind a nesting VT-d unit %s a device TLB",
              with_ats ? "with" : "without");
    return device;
}

struct guest vtd_make_guest(int iommufd, const struct test_device *device, bool shared,
                            uint32_t flags)
{
    struct guest guest =
        make_guest_memory(iommufd, shared, flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING);

    guest.staging = STAGING_PASID;
    guest.parent = allocate_paging(&guest, device,
                                   IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_ALLOC_PASID | flags);
    if (attach_to(device, guest.parent, STAGING_PASID))
        fatal("attaching the guest's memory: %s", strerror(errno));
    return guest;
}

void vtd_check_fault(const struct test_device *device, uint32_t reason, uint64_t iova,
                     uint32_t attributes, bool writing, const char *what)
{
    struct iommufd_sim_fault fault = {0};
    bool has_pasid = attributes & WITH_PASID;
    /* VT-d §11.4.14: FI; SID, PRIV, EXE, PP, FR, PV, T1, F */
    uint64_t high = (uint64_t)reason << 32 | 1UL << 63 | (writing ? 0 : 1UL << 62);

    if (!read_fault(device, &fault)) {
        check_number(0, reason, "%s", what);
        return;
    }
    high |= fault.requester;
    if (has_pasid)
        high |= (uint64_t)(attributes & 0xfffff) << 40 | 1UL << 31 |
                (attributes & PRIVILEGED ? 1UL << 29 : 0) | (attributes & EXECUTE ? 1UL << 30 : 0);
    if (!check_number(fault.reason, reason, "%s", what))
        return;
    if (fault.raw[0] != (iova & ~0xfffUL) || fault.raw[1] != high || fault.iova != iova ||
        fault.dev_id != device->id || fault.raw[2] || fault.raw[3])
        check_number(fault.raw[1], high, "%s: the record", what);
    if (drain_faults(device))
        check_number(1, 0, "%s: one fault only", what);
}

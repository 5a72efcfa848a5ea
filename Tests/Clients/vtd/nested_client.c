/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hypervisor that assigns a device to a guest. The guest's page table lies in the guest's memory
 * and is nested on the hypervisor's page table; the device's DMA is translated by both. The guest
 * then changes an entry, first without an invalidation.
 *
 *   nested_client       prints the steps; status 1 when a result is not the expected one
 *
 * The device is a "PCI Express ATS/PRI test device" (1234:11e9) behind an Intel VT-d unit.
 */
#include "guest/vtd.h"

#define ADDRESS 0x7000000000UL /* a virtual address of the guest's program */

static bool failed;

__attribute__((format(printf, 2, 3))) static void expect(bool good, const char *format, ...)
{
    va_list arguments;

    printf("   %s: ", good ? "yes" : "NO");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    failed |= !good;
}

int main(void)
{
    int iommufd = open_iommufd();
    struct test_device device = vtd_find_device(iommufd, false);
    struct guest guest = vtd_make_guest(iommufd, &device, true, 0);
    uint64_t root = allocate_table(&guest), *entry, byte;
    struct iommufd_sim_fault fault = {0};
    uint32_t nested;

    printf("1. A guest has %lu MiB of memory at %#lx, mapped through the hypervisor's table %u.\n",
           GUEST_LENGTH >> 20, GUEST, guest.parent);
    entry = map_page(&guest, root, ADDRESS, data_page(0), USER);
    printf("2. In that memory it makes a page table: %#lx is its page at %#lx.\n", ADDRESS,
           (unsigned long)data_page(0));
    nested = vtd_make_nested(&guest, &device, root);
    if (attach_to(&device, nested, NO_PASID))
        fatal("VFIO_DEVICE_ATTACH_IOMMUFD_PT: %s", strerror(errno));
    printf("3. The guest's table is nested on the hypervisor's, as table %u, and given to the device.\n",
           nested);

    printf("4. The device reads at %#lx, through both tables.\n", ADDRESS);
    byte = read_byte(&guest, &device, ADDRESS, NO_PASID);
    expect(byte == 1, "it has the bytes of the guest's page 0");

    __atomic_store_n(entry, data_page(1) | USER, __ATOMIC_RELEASE);
    printf("5. The guest lets the address mean its page 1, and invalidates nothing.\n");
    byte = read_byte(&guest, &device, ADDRESS, NO_PASID);
    expect(byte == 1, "the device still reads page 0: that is what the IOTLB has");

    vtd_invalidate(&guest, nested, ADDRESS, 1, 0);
    printf("6. IOMMU_HWPT_INVALIDATE of that page.\n");
    byte = read_byte(&guest, &device, ADDRESS, NO_PASID);
    expect(byte == 2, "now it reads page 1");

    __atomic_store_n(entry, 0, __ATOMIC_RELEASE);
    vtd_invalidate(&guest, nested, ADDRESS, 1, 0);
    printf("7. The guest takes the entry away, and says so.\n");
    byte = read_byte(&guest, &device, ADDRESS, NO_PASID);
    expect(byte > 0xff, "the device reads nothing");
    read_fault(&device, &fault);
    expect(fault.reason == FIRST_ABSENT && fault.iova == ADDRESS,
           "a fault at %#llx, reason %#x: not present in the first stage",
           (unsigned long long)fault.iova, fault.reason);
    return failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hypervisor does for a guest with a device of its own, in one page: the guest's page table lies in
 * the guest's memory, is nested on the hypervisor's, and the device goes through both. The guest then
 * changes an entry, first without telling anybody.
 *
 *   nested_client       says what happens; status 1 when something else did
 *
 * The device is a "PCI Express ATS/PRI test device" (1234:11e9) behind an Intel VT-d unit.
 */
#include "guest/vtd.h"

#define ADDRESS 0x7000000000UL /* of the guest's program; its page table leads from here to its pages */

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
    struct test_device device = find_device(iommufd, false);
    struct guest guest = make_guest(iommufd, &device, true, 0);
    uint64_t root = make_table(&guest), *entry, byte;
    struct iommufd_sim_fault fault = {0};
    uint32_t nested;

    printf("1. A guest has %lu MiB of memory at %#lx, mapped through the hypervisor's table %u.\n",
           GUEST_LENGTH >> 20, GUEST, guest.parent);
    entry = map_page(&guest, root, ADDRESS, data_page(0), USER);
    printf("2. In that memory it makes a page table: %#lx is its page at %#lx.\n", ADDRESS,
           (unsigned long)data_page(0));
    nested = make_nested(&guest, &device, root);
    if (attach_to(&device, nested, NO_PASID))
        give_up("VFIO_DEVICE_ATTACH_IOMMUFD_PT: %s", strerror(errno));
    printf("3. The guest's table is nested on the hypervisor's, as table %u, and given to the device.\n",
           nested);

    printf("4. The device reads at %#lx, through both tables.\n", ADDRESS);
    byte = read_byte(&guest, &device, ADDRESS, NO_PASID);
    expect(byte == 1, "it has the bytes of the guest's page 0");

    __atomic_store_n(entry, data_page(1) | USER, __ATOMIC_RELEASE);
    printf("5. The guest lets the address mean its page 1, and invalidates nothing.\n");
    byte = read_byte(&guest, &device, ADDRESS, NO_PASID);
    expect(byte == 1, "the device still reads page 0: that is what the IOTLB has");

    invalidate(&guest, nested, ADDRESS, 1, 0);
    printf("6. IOMMU_HWPT_INVALIDATE of that page.\n");
    byte = read_byte(&guest, &device, ADDRESS, NO_PASID);
    expect(byte == 2, "now it reads page 1");

    __atomic_store_n(entry, 0, __ATOMIC_RELEASE);
    invalidate(&guest, nested, ADDRESS, 1, 0);
    printf("7. The guest takes the entry away, and says so.\n");
    byte = read_byte(&guest, &device, ADDRESS, NO_PASID);
    expect(byte > 0xff, "the device reads nothing");
    take_fault(&device, &fault);
    expect(fault.reason == FIRST_ABSENT && fault.iova == ADDRESS,
           "a fault at %#llx, reason %#x: not present in the first stage",
           (unsigned long long)fault.iova, fault.reason);
    return failed;
}

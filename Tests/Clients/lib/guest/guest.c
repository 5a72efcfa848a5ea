/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/guest.h"

uint64_t *guest_word(const struct guest *guest, uint64_t physical)
{
    if (physical < GUEST || physical >= GUEST + GUEST_LENGTH)
        fatal("%#llx is outside of the guest", (unsigned long long)physical);
    return (uint64_t *)(guest->memory + (physical - GUEST));
}

uint64_t data_page(unsigned number)
{
    return GUEST + DATA + number * PAGE;
}

uint64_t allocate_table(struct guest *guest)
{
    uint64_t table = guest->next_table;

    guest->next_table += PAGE;
    if (table + PAGE > GUEST + DATA)
        fatal("no memory for tables");
    memset(guest_word(guest, table), 0, PAGE);
    return table;
}

uint64_t *entry_at(struct guest *guest, uint64_t root, uint64_t address, unsigned level)
{
    uint64_t table = root;

    for (unsigned at = 3;; at--) {
        uint64_t *entry = guest_word(guest, table) + (address >> (12 + 9 * at) & 511);

        if (at == level)
            return entry;
        if (!(*entry & P))
            *entry = allocate_table(guest) | USER;
        table = *entry & 0xffffffffff000UL;
    }
}

void map_data_page(struct guest *guest, uint64_t root, uint64_t address, unsigned page)
{
    __atomic_store_n(entry_at(guest, root, address, 0), data_page(page) | USER, __ATOMIC_RELEASE);
}

uint64_t *map_page(struct guest *guest, uint64_t root, uint64_t address, uint64_t physical,
                   uint64_t flags)
{
    uint64_t *entry = entry_at(guest, root, address, 0);

    *entry = physical | flags;
    return entry;
}

long allocate_hwpt(int iommufd, uint32_t device, uint32_t pt, uint32_t flags, uint32_t type,
                   const void *data, uint32_t length, uint32_t fault, uint32_t *hwpt)
{
    struct iommu_hwpt_alloc cmd = hwpt_arguments(device, pt, flags, type, data, length, fault);
    long result = ioctl(iommufd, IOMMU_HWPT_ALLOC, &cmd);

    if (!result && hwpt)
        *hwpt = cmd.out_hwpt_id;
    return result;
}

uint32_t allocate_paging(const struct guest *guest, const struct test_device *device,
                         uint32_t flags)
{
    uint32_t hwpt;

    if (allocate_hwpt(guest->iommufd, device->id, guest->ioas, flags, 0, NULL, 0, 0, &hwpt))
        fatal("HWPT_ALLOC of a paging table: %s", strerror(errno));
    return hwpt;
}

long destroy_object(int iommufd, uint32_t id)
{
    struct iommu_destroy cmd = {.size = sizeof(cmd), .id = id};

    return ioctl(iommufd, IOMMU_DESTROY, &cmd);
}

long hardware_info(int iommufd, uint32_t device, void *data, uint32_t length,
                   struct iommu_hw_info *info)
{
    *info = (struct iommu_hw_info){.size = sizeof(*info),
                                   .dev_id = device,
                                   .data_len = length,
                                   .data_uptr = (uintptr_t)data};
    return ioctl(iommufd, IOMMU_GET_HW_INFO, info);
}

bool find_wanted_device(int iommufd, struct test_device *device,
                        bool (*is_wanted)(int iommufd, const struct test_device *device))
{
    for (int index = 0; index < 64; index++) {
        int fd = open_vfio_device(index);

        if (fd < 0)
            continue;
        if (bind_device(iommufd, fd, index, device)) {
            if (is_wanted(iommufd, device))
                return true;
            close(device->faults);
        }
        close(fd);
    }
    return false;
}

long map_memory(const struct guest *guest)
{
    struct iommu_ioas_map cmd =
        map_arguments(guest->ioas, (uintptr_t)guest->memory, GUEST_LENGTH, MAP_FLAGS, GUEST);

    return ioctl(guest->iommufd, IOMMU_IOAS_MAP, &cmd);
}

long unmap_memory(const struct guest *guest)
{
    struct iommu_ioas_unmap cmd = unmap_arguments(guest->ioas, GUEST, GUEST_LENGTH);

    return ioctl(guest->iommufd, IOMMU_IOAS_UNMAP, &cmd);
}

struct guest make_guest_memory(int iommufd, bool is_shared, bool is_uneven)
{
    struct guest guest = {.iommufd = iommufd, .next_table = GUEST};
    struct iommu_ioas_alloc ioas = {.size = sizeof(ioas)};
    int memory = is_shared ? memfd_create("guest", MFD_CLOEXEC) : -1;

    if (is_shared && (memory < 0 || ftruncate(memory, GUEST_LENGTH + PAGE)))
        fatal("no memory for a guest: %s", strerror(errno));
    guest.memory = mmap(NULL, GUEST_LENGTH + PAGE, PROT_READ | PROT_WRITE,
                        is_shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, memory, 0);
    if (guest.memory == MAP_FAILED || ioctl(iommufd, IOMMU_IOAS_ALLOC, &ioas))
        fatal("no memory for a guest: %s", strerror(errno));
    if (is_uneven)
        guest.memory += PAGE;
    guest.ioas = ioas.out_ioas_id;
    if (map_memory(&guest))
        fatal("IOAS_MAP: %s", strerror(errno));
    for (unsigned i = 0; i != DATA_PAGES; i++)
        memset(guest_word(&guest, data_page(i)), (int)i + 1, PAGE);
    return guest;
}

uint64_t device_buffer_word(const struct guest *guest, const struct test_device *device)
{
    if (dma_write(device, GUEST + STAGING, 8, guest->staging) != COMPLETED)
        fatal("the device's buffer cannot be looked at");
    return *guest_word(guest, GUEST + STAGING);
}

uint64_t read_byte(const struct guest *guest, const struct test_device *device, uint64_t iova,
                   uint32_t attributes)
{
    uint32_t status = dma_read(device, iova, 8, attributes);

    return status == COMPLETED ? device_buffer_word(guest, device) & 0xff : 0x100u + status;
}

unsigned moved_pages(const struct guest *guest, const struct test_device *device, uint64_t iova,
                     unsigned count, uint32_t attributes)
{
    unsigned pages = 0;

    for (unsigned i = 0; i != count; i++) {
        uint64_t byte = read_byte(guest, device, iova + i * PAGE, attributes);

        if (byte == i + 9)
            pages |= 1u << i;
        else if (byte != i + 1)
            pages |= 0x100u << i;
    }
    return pages;
}

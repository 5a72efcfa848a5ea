/* SPDX-License-Identifier: Apache-2.0 */
#include "smmu/smmu_guest.h"

uint64_t readback_page;

static unsigned char *guest_memory;
static uint64_t next_page;

void *guest_at(uint64_t address)
{
    return guest_memory + (address - GUEST_BASE);
}

uint64_t allocate_pages(uint64_t count)
{
    uint64_t first = (next_page + count - 1) / count * count;

    next_page = first + count;
    if (next_page > GUEST_PAGES)
        abort();
    memset(guest_memory + first * PAGE, 0, count * PAGE);
    return GUEST_BASE + first * PAGE;
}

void make_smmu_guest_memory(uint32_t ioas, bool use_file)
{
    int fd = -1;

    next_page = 0;
    if (use_file) {
        fd = memfd_create("guest", MFD_CLOEXEC);
        if (fd < 0 || ftruncate(fd, GUEST_PAGES * PAGE))
            exit(2);
    }
    guest_memory = mmap((void *)0x300000000000, GUEST_PAGES * PAGE, PROT_READ | PROT_WRITE,
                        (use_file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS) | MAP_FIXED, fd, 0);
    if (guest_memory == MAP_FAILED)
        exit(2);
    if (use_file) {
        struct iommu_ioas_map_file cmd = {.size = sizeof(cmd), .flags = FIXED | R | W,
                                          .ioas_id = ioas, .fd = fd,
                                          .length = GUEST_PAGES * PAGE, .iova = GUEST_BASE};
        if (ioctl(iommufd, IOMMU_IOAS_MAP_FILE, &cmd))
            exit(2);
        close(fd);
    } else {
        struct iommu_ioas_map cmd = map_arguments(ioas, (uintptr_t)guest_memory,
                                                  GUEST_PAGES * PAGE, FIXED | R | W, GUEST_BASE);

        if (ioctl(iommufd, IOMMU_IOAS_MAP, &cmd))
            exit(2);
    }
}

void require(bool good, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    printf(good ? "yes: " : "NO: ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    if (!good) {
        fflush(stdout);
        exit(1);
    }
}

uint64_t *stage1_entry(uint64_t root, uint64_t address, int level)
{
    uint64_t table = root;

    for (int l = 0;; l++) {
        uint64_t *entry = (uint64_t *)guest_at(table) + (address >> (39 - 9 * l) & 511);

        if (l == level)
            return entry;
        if (!(*entry & PTE_VALID))
            *entry = allocate_pages(1) | PTE_VALID | PTE_TABLE;
        table = *entry & 0xfffffffff000;
    }
}

void map_4k(uint64_t root, uint64_t address, uint64_t to, uint64_t flags)
{
    *stage1_entry(root, address, 3) = to | flags | PTE_TABLE;
}

void map_2m(uint64_t root, uint64_t address, uint64_t to, uint64_t flags)
{
    *stage1_entry(root, address, 2) = to | flags;
}

struct iommu_hwpt_arm_smmuv3 stream_entry(int config, uint64_t cd_table, unsigned bits,
                                          unsigned format, unsigned default_substream)
{
    return (struct iommu_hwpt_arm_smmuv3){
        {1 | (uint64_t)config << 1 | (uint64_t)format << 4 | cd_table | (uint64_t)bits << 59,
         default_substream | 1 << 2 | 1 << 4 | 3 << 6 | 1 << 27}};
}

struct context_descriptor context_descriptor(uint64_t root, uint16_t asid)
{
    return (struct context_descriptor){{16 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 30 | 1ULL << 31 |
                                            2ULL << 32 | 1ULL << 41 | 1ULL << 45 | 1ULL << 46 |
                                            1ULL << 47 | (uint64_t)asid << 48,
                                        root, 0, 0xff}};
}

struct smmu_command cfgi(int operation, uint32_t stream, uint32_t pasid)
{
    return (struct smmu_command){{operation | (uint64_t)pasid << 12 | (uint64_t)stream << 32, 0}};
}

struct smmu_command tlbi(int operation, uint16_t asid, uint64_t address)
{
    uint64_t vmid = operation == NSNH_ALL ? 0 : 0x77;

    return (struct smmu_command){{operation | vmid << 32 | (uint64_t)asid << 48, address}};
}

struct smmu_command tlbi_range(int operation, uint16_t asid, uint64_t address, unsigned number,
                               unsigned scale, unsigned level)
{
    struct smmu_command command = tlbi(operation, asid, address);

    command.words[0] |= (uint64_t)number << 12 | (uint64_t)scale << 20;
    command.words[1] |= 1 << 10 | level << 8;
    return command;
}

struct smmu_command atc_invalidate(uint32_t stream, int pasid, uint64_t address, unsigned size)
{
    struct smmu_command command = {{ATC_INV | (uint64_t)stream << 32, address | size}};

    if (pasid != NO_SUBSTREAM)
        command.words[0] |= 1 << 11 | (uint64_t)pasid << 12;
    return command;
}

struct smmu_event fault_event(int kind, int pasid, uint64_t address, bool reads)
{
    struct smmu_event event = {.words = {kind | (uint64_t)VIRTUAL_STREAM << 32,
                                         (reads ? 1ULL << 35 : 0) | 2ULL << 40, address, 0}};

    if (pasid != NO_SUBSTREAM)
        event.words[0] |= 1 << 11 | (uint64_t)pasid << 12;
    return event;
}

struct smmu_event structure_event(int kind, int pasid)
{
    struct smmu_event event = {.words = {kind | (uint64_t)VIRTUAL_STREAM << 32}};

    if (pasid != NO_SUBSTREAM && kind != F_STREAM_DISABLED)
        event.words[0] |= (kind == C_BAD_SUBSTREAMID ? 0 : 1 << 11) | (uint64_t)pasid << 12;
    return event;
}

void bar0_write(unsigned offset, uint64_t value, size_t width)
{
    if (pwrite(device_fd, &value, width, (off_t)(region_offset(0) + offset)) != (ssize_t)width)
        exit(2);
}

uint32_t bar0_read(unsigned offset)
{
    uint32_t value = 0;

    if (pread(device_fd, &value, 4, (off_t)(region_offset(0) + offset)) != 4)
        exit(2);
    return value;
}

uint32_t bind_smmu_device(unsigned skip, struct iommu_hw_info *info,
                          struct iommu_hw_info_arm_smmuv3 *unit)
{
    for (int index = 0;; index++) {
        struct vfio_device_bind_iommufd bind = {.argsz = 16, .iommufd = iommufd};
        uint16_t command = 6; /* memory space and bus master */

        device_fd = must_open_vfio_device(index);
        if (ioctl(device_fd, VFIO_DEVICE_BIND_IOMMUFD, &bind))
            exit(2);
        *info = (struct iommu_hw_info){.size = sizeof(*info), .dev_id = bind.out_devid,
                                       .data_len = sizeof(*unit), .data_uptr = (uintptr_t)unit};
        if (ioctl(iommufd, IOMMU_GET_HW_INFO, info))
            exit(2);
        if (info->out_data_type == IOMMU_HW_INFO_TYPE_ARM_SMMUV3 && !skip--) {
            find_regions();
            if (pwrite(device_fd, &command, 2, (off_t)(CONFIG + 4)) != 2)
                exit(2);
            return bind.out_devid;
        }
        close(device_fd);
    }
}

uint32_t run_dma(uint32_t command, int pasid, uint64_t address, uint32_t count)
{
    bar0_write(TEST_DEVICE_ADDRESS, address, 8);
    bar0_write(TEST_DEVICE_ATTRIBUTES, pasid == NO_SUBSTREAM ? 0 : 1U << 31 | (uint32_t)pasid, 4);
    bar0_write(TEST_DEVICE_COUNT, count, 4);
    bar0_write(TEST_DEVICE_COMMAND, command, 4);
    return bar0_read(TEST_DEVICE_STATUS);
}

int read_byte_at(int pasid, uint64_t address)
{
    uint32_t status = run_dma(DMA_READ, pasid, address, 64);

    if (status == COMPLETED)
        status = run_dma(DMA_WRITE, pasid, READBACK_IOVA, 64);
    return status == COMPLETED ? *(unsigned char *)guest_at(readback_page) : -(int)status;
}

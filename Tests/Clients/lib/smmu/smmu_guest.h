/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest of an SMMUv3, as its driver inside the guest would see itself: memory at guest-physical
 * addresses, VMSAv8-64 page tables with 4 KiB pages, context descriptors, invalidation commands and event
 * records (Arm IHI 0070). And the device that it drives, a "PCI Express ATS/PRI test device".
 */
#ifndef SMMU_GUEST_H
#define SMMU_GUEST_H

#include "transcript/hwpt.h"
#include "vfio/test_registers.h"
#include "vfio/vfio_client.h"

enum {
    GUEST_PAGES = 1024, /* 4 MiB: less than RLIMIT_MEMLOCK of nobody in particular */
    VIRTUAL_STREAM = 0x1234,
};
static const uint64_t GUEST_BASE = 0x40000000; /* where a guest's RAM begins on Arm */

static unsigned char *guest_memory;
static uint64_t next_page;

static inline void *at(uint64_t address)
{
    return guest_memory + (address - GUEST_BASE);
}

/** `count` zeroed pages, at a multiple of their size if that is a power of two. */
static inline uint64_t take_pages(uint64_t count)
{
    uint64_t first = (next_page + count - 1) / count * count;

    next_page = first + count;
    if (next_page > GUEST_PAGES)
        abort();
    memset(guest_memory + first * PAGE, 0, count * PAGE);
    return GUEST_BASE + first * PAGE;
}

/** The guest's whole memory, private or of a file, mapped into `ioas`. */
static inline void make_guest_memory(uint32_t ioas, bool use_file)
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

/** Ends the client when an expectation is not met. */
__attribute__((format(printf, 2, 3)))
static inline void check(bool good, const char *format, ...)
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

/* ---- page tables (Arm ARM, D8.3) ---------------------------------------------------------- */

enum {
    PTE_VALID = 1 << 0,
    PTE_TABLE = 1 << 1, /* a table, and at level 3 a page */
    PTE_USER = 1 << 6,  /* AP[1] */
    PTE_READ_ONLY = 1 << 7,
    PTE_SHARED = 3 << 8,
    PTE_AF = 1 << 10,
    PTE_NOT_GLOBAL = 1 << 11,
    LEAF = PTE_VALID | PTE_USER | PTE_SHARED | PTE_AF | PTE_NOT_GLOBAL,
};

/** The entry for `address` at `level` of a table with 48 input bits; tables on the way are made. */
static inline uint64_t *entry_of(uint64_t root, uint64_t address, int level)
{
    uint64_t table = root;

    for (int l = 0;; l++) {
        uint64_t *entry = (uint64_t *)at(table) + (address >> (39 - 9 * l) & 511);

        if (l == level)
            return entry;
        if (!(*entry & PTE_VALID))
            *entry = take_pages(1) | PTE_VALID | PTE_TABLE;
        table = *entry & 0xfffffffff000;
    }
}

static inline void map_page(uint64_t root, uint64_t address, uint64_t to, uint64_t flags)
{
    *entry_of(root, address, 3) = to | flags | PTE_TABLE;
}

static inline void map_2m(uint64_t root, uint64_t address, uint64_t to, uint64_t flags)
{
    *entry_of(root, address, 2) = to | flags;
}

/* ---- stream table entry and context descriptors (IHI 0070, 5.2 and 5.4) ------------------- */

enum { STE_ABORT = 0, STE_BYPASS = 4, STE_STAGE1 = 5 };

static inline struct iommu_hwpt_arm_smmuv3 stream_entry(int config, uint64_t descriptors,
                                                        unsigned bits, unsigned format,
                                                        unsigned plain)
{
    return (struct iommu_hwpt_arm_smmuv3){
        {1 | (uint64_t)config << 1 | (uint64_t)format << 4 | descriptors | (uint64_t)bits << 59,
         plain | 1 << 2 | 1 << 4 | 3 << 6 | 1 << 27}};
}

struct descriptor {
    uint64_t words[8];
};

/** V, AA64, A, R, ASET; TTB1 disabled; 48 input bits, 4 KiB, write-back and shared; IPS 40 bits. */
static inline struct descriptor context(uint64_t root, uint16_t asid)
{
    return (struct descriptor){{16 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 30 | 1ULL << 31 |
                                    2ULL << 32 | 1ULL << 41 | 1ULL << 45 | 1ULL << 46 |
                                    1ULL << 47 | (uint64_t)asid << 48,
                                root, 0, 0xff}};
}

/* ---- commands (4.3 and 4.4) --------------------------------------------------------------- */

struct smmu_command {
    uint64_t words[2];
};

enum { CFGI_CD = 0x05, CFGI_CD_ALL = 0x06, NH_ALL = 0x10, NH_ASID = 0x11, NH_VA = 0x12,
       NH_VAA = 0x13, NSNH_ALL = 0x30, ATC_INV = 0x40 };

static inline struct smmu_command configuration(int operation, uint32_t stream, uint32_t pasid)
{
    return (struct smmu_command){{operation | (uint64_t)pasid << 12 | (uint64_t)stream << 32, 0}};
}

/** The VMID, where a command has one, is not the guest's own: that is not its to know. */
static inline struct smmu_command tlbi(int operation, uint16_t asid, uint64_t address)
{
    uint64_t vmid = operation == NSNH_ALL ? 0 : 0x77;

    return (struct smmu_command){{operation | vmid << 32 | (uint64_t)asid << 48, address}};
}

/** (`number` + 1) << `scale` pages of 4 KiB, with leaves at `level` (0: any). */
static inline struct smmu_command tlbi_range(int operation, uint16_t asid, uint64_t address,
                                             unsigned number, unsigned scale, unsigned level)
{
    struct smmu_command command = tlbi(operation, asid, address);

    command.words[0] |= (uint64_t)number << 12 | (uint64_t)scale << 20;
    command.words[1] |= 1 << 10 | level << 8;
    return command;
}

/** No PASID. */
enum { PLAIN = -1 };

/** 2^`size` pages at `address`, with 52 all; PLAIN: of all PASIDs. */
static inline struct smmu_command atc_invalidate(uint32_t stream, int pasid, uint64_t address,
                                                 unsigned size)
{
    struct smmu_command command = {{ATC_INV | (uint64_t)stream << 32, address | size}};

    if (pasid != PLAIN)
        command.words[0] |= 1 << 11 | (uint64_t)pasid << 12;
    return command;
}

/* ---- events (7.3) ------------------------------------------------------------------------- */

enum { C_BAD_STE = 4, F_STREAM_DISABLED = 6, C_BAD_SUBSTREAMID = 8, C_BAD_CD = 0x0a,
       F_TRANSLATION = 0x10, F_ADDR_SIZE = 0x11, F_ACCESS = 0x12, F_PERMISSION = 0x13 };

struct event {
    struct iommufd_vevent_header header;
    uint64_t words[4];
};

/** The record of a fault of stage 1 that the address of an access met (CLASS is IN). */
static inline struct event fault(int kind, int pasid, uint64_t address, bool reads)
{
    struct event event = {.words = {kind | (uint64_t)VIRTUAL_STREAM << 32,
                                    (reads ? 1ULL << 35 : 0) | 2ULL << 40, address, 0}};

    if (pasid != PLAIN)
        event.words[0] |= 1 << 11 | (uint64_t)pasid << 12;
    return event;
}

/** The record of a bad structure: who, but not where. */
static inline struct event bad(int kind, int pasid)
{
    struct event event = {.words = {kind | (uint64_t)VIRTUAL_STREAM << 32}};

    if (pasid != PLAIN && kind != F_STREAM_DISABLED)
        event.words[0] |= (kind == C_BAD_SUBSTREAMID ? 0 : 1 << 11) | (uint64_t)pasid << 12;
    return event;
}

/* ---- the device --------------------------------------------------------------------------- */

enum { COPY_IN = RUN | FROM_MEMORY, COPY_OUT = RUN };

static inline void write_register(unsigned at, uint64_t value, size_t width)
{
    if (pwrite(device, &value, width, (off_t)(region_offset(0) + at)) != (ssize_t)width)
        exit(2);
}

static inline uint32_t read_register(unsigned at)
{
    uint32_t value = 0;

    if (pread(device, &value, 4, (off_t)(region_offset(0) + at)) != 4)
        exit(2);
    return value;
}

/** Opens devices until one is behind an SMMUv3, but for the first `skip` of those; binds it, wakes it up
 *  and tells what is to know of it. */
static inline uint32_t bind_device(unsigned skip, struct iommu_hw_info *info,
                                   struct iommu_hw_info_arm_smmuv3 *unit)
{
    for (int index = 0;; index++) {
        struct vfio_device_bind_iommufd bind = {.argsz = 16, .iommufd = iommufd};
        uint16_t command = 6; /* memory, bus master */

        device = open_device(index);
        if (ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind))
            exit(2);
        *info = (struct iommu_hw_info){.size = sizeof(*info), .dev_id = bind.out_devid,
                                       .data_len = sizeof(*unit), .data_uptr = (uintptr_t)unit};
        if (ioctl(iommufd, IOMMU_GET_HW_INFO, info))
            exit(2);
        if (info->out_data_type == IOMMU_HW_INFO_TYPE_ARM_SMMUV3 && !skip--) {
            find_regions();
            if (pwrite(device, &command, 2, (off_t)(CONFIG + 4)) != 2)
                exit(2);
            return bind.out_devid;
        }
        close(device);
    }
}

/** Has the device copy; gives how that ended. */
static inline uint32_t copy_by(uint32_t command, int pasid, uint64_t address, uint32_t count)
{
    write_register(TEST_DEVICE_ADDRESS, address, 8);
    write_register(TEST_DEVICE_ATTRIBUTES, pasid == PLAIN ? 0 : 1U << 31 | (uint32_t)pasid, 4);
    write_register(TEST_DEVICE_COUNT, count, 4);
    write_register(TEST_DEVICE_COMMAND, command, 4);
    return read_register(TEST_DEVICE_STATUS);
}

/** Mapped in every address space, to the page `mirror`. */
static const uint64_t MIRROR = 0x7f0000000000;
static uint64_t mirror;

/** The first byte that the device finds at `address`, or minus the status that says why none. */
static inline int seen(int pasid, uint64_t address)
{
    uint32_t status = copy_by(COPY_IN, pasid, address, 64);

    if (status == COMPLETED)
        status = copy_by(COPY_OUT, pasid, MIRROR, 64);
    return status == COMPLETED ? *(unsigned char *)at(mirror) : -(int)status;
}

#endif /* SMMU_GUEST_H */

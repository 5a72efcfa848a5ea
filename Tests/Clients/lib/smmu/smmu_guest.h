/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest of an SMMUv3 as the driver in the guest deals with it (Arm IHI 0070): memory at guest
 * physical addresses, VMSAv8-64 page tables with 4 KiB pages, context descriptors, invalidation
 * commands and event records; and DMA by the guest's device, a "PCI Express ATS/PRI test device".
 */
#ifndef SMMU_GUEST_H
#define SMMU_GUEST_H

#include "transcript/hwpt.h"
#include "vfio/test_registers.h"
#include "vfio/vfio_client.h"

enum {
    GUEST_PAGES = 1024, /* 4 MiB: less than the usual RLIMIT_MEMLOCK of a user without privilege */
    VIRTUAL_STREAM = 0x1234,
};
static const uint64_t GUEST_BASE = 0x40000000; /* where RAM begins on Arm virtual machines */

/** Maps the guest's memory, private or of a memfd, into `ioas`. */
void make_smmu_guest_memory(uint32_t ioas, bool use_file);

/** Returns where the byte at a guest physical address is mapped. */
void *guest_at(uint64_t address);

/**
 * Allocates `count` pages of zeros. Returns their guest physical address, a multiple of their size
 * when `count` is a power of two.
 */
uint64_t allocate_pages(uint64_t count);

/** Prints whether a requirement is met. Ends the client with status 1 when it is not. */
__attribute__((format(printf, 2, 3))) void require(bool good, const char *format, ...);

/* ---- page tables (Arm ARM, D8.3) ---------------------------------------------------------- */

enum {
    PTE_VALID = 1 << 0,
    PTE_TABLE = 1 << 1, /* a table; at level 3 a page */
    PTE_USER = 1 << 6,  /* AP[1] */
    PTE_READ_ONLY = 1 << 7,
    PTE_SHARED = 3 << 8,
    PTE_AF = 1 << 10,
    PTE_NOT_GLOBAL = 1 << 11,
    LEAF = PTE_VALID | PTE_USER | PTE_SHARED | PTE_AF | PTE_NOT_GLOBAL,
};

/**
 * Returns the entry for `address` at `level` of a table with 48 input bits. Allocates the tables on
 * the way.
 */
uint64_t *stage1_entry(uint64_t root, uint64_t address, int level);

void map_4k(uint64_t root, uint64_t address, uint64_t to, uint64_t flags);

void map_2m(uint64_t root, uint64_t address, uint64_t to, uint64_t flags);

/* ---- STEs and CDs (IHI 0070, 5.2 and 5.4) ------------------------------------------------- */

enum { STE_ABORT = 0, STE_BYPASS = 4, STE_STAGE1 = 5 };

/** Returns an STE: `bits` is S1CDMax, `format` is S1Fmt, `default_substream` is S1DSS. */
struct iommu_hwpt_arm_smmuv3 stream_entry(int config, uint64_t cd_table, unsigned bits,
                                          unsigned format, unsigned default_substream);

struct context_descriptor {
    uint64_t words[8];
};

/**
 * Returns a CD: V, AA64, A, R, ASET; TTB1 disabled; 48 input bits, 4 KiB, write-back and shared;
 * IPS 40 bits.
 */
struct context_descriptor context_descriptor(uint64_t root, uint16_t asid);

/* ---- commands (IHI 0070, 4.3 and 4.4) ------------------------------------------------------ */

struct smmu_command {
    uint64_t words[2];
};

enum { CFGI_CD = 0x05, CFGI_CD_ALL = 0x06, NH_ALL = 0x10, NH_ASID = 0x11, NH_VA = 0x12,
       NH_VAA = 0x13, NSNH_ALL = 0x30, ATC_INV = 0x40 };

/** The `pasid` of a transaction or command without a SubstreamID. */
enum { NO_SUBSTREAM = -1 };

struct smmu_command cfgi(int operation, uint32_t stream, uint32_t pasid);

/** A command that has a VMID gets an arbitrary one, because a guest does not know its VMID. */
struct smmu_command tlbi(int operation, uint16_t asid, uint64_t address);

/**
 * Invalidates (`number` + 1) << `scale` pages of 4 KiB, with leaf entries at `level`, or at any
 * level when it is 0.
 */
struct smmu_command tlbi_range(int operation, uint16_t asid, uint64_t address, unsigned number,
                               unsigned scale, unsigned level);

/**
 * Invalidates 2^`size` pages at `address`; all when `size` is 52; of all PASIDs when `pasid` is
 * NO_SUBSTREAM.
 */
struct smmu_command atc_invalidate(uint32_t stream, int pasid, uint64_t address, unsigned size);

/* ---- events (IHI 0070, 7.3) ---------------------------------------------------------------- */

enum { C_BAD_STE = 4, F_STREAM_DISABLED = 6, C_BAD_SUBSTREAMID = 8, C_BAD_CD = 0x0a,
       F_TRANSLATION = 0x10, F_ADDR_SIZE = 0x11, F_ACCESS = 0x12, F_PERMISSION = 0x13 };

struct smmu_event {
    struct iommufd_vevent_header header;
    uint64_t words[4];
};

/** Returns the record of a stage 1 fault at the input address of a transaction (CLASS is IN). */
struct smmu_event fault_event(int kind, int pasid, uint64_t address, bool reads);

/** Returns the record of a bad STE, CD or SubstreamID. It has no address. */
struct smmu_event structure_event(int kind, int pasid);

/* ---- the device --------------------------------------------------------------------------- */

/**
 * Binds VFIO devices until one is behind an SMMUv3, but skips the first `skip` of those. Makes it a
 * bus master, stores the answer to GET_HW_INFO, and returns its device ID.
 */
uint32_t bind_smmu_device(unsigned skip, struct iommu_hw_info *info,
                          struct iommu_hw_info_arm_smmuv3 *unit);

void bar0_write(unsigned offset, uint64_t value, size_t width);

uint32_t bar0_read(unsigned offset);

/**
 * Values of TEST_DEVICE_COMMAND: the device copies from memory to its buffer, or from its buffer to
 * memory.
 */
enum { DMA_READ = RUN | FROM_MEMORY, DMA_WRITE = RUN };

/** Lets the device copy `count` bytes. Returns TEST_DEVICE_STATUS. */
uint32_t run_dma(uint32_t command, int pasid, uint64_t address, uint32_t count);

/**
 * An address that every address space maps to `readback_page`: read_byte_at() writes the device's
 * buffer there.
 */
static const uint64_t READBACK_IOVA = 0x7f0000000000;
extern uint64_t readback_page;

/**
 * Returns the first byte that the device reads at `address`, or minus its status when it reads
 * none.
 */
int read_byte_at(int pasid, uint64_t address);

#endif /* SMMU_GUEST_H */

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iommufd-sim: the commands that the simulator's /dev/iommu has and the kernel's does not.
 *
 * These commands follow the conventions of <linux/iommufd.h>. Their numbers are far from the
 * kernel's numbers, and contain direction and size, so no _IO() number is one of them. On a
 * kernel's /dev/iommu they are ENOTTY. A client can try a command and do without it when it is
 * ENOTTY.
 */
#ifndef IOMMUFD_SIM_H
#define IOMMUFD_SIM_H

#include "linux/iommufd.h"
#include "linux/vfio.h"
#include <linux/types.h>

/** The "nr" byte of each request number. */
enum {
    IOMMUFD_SIM_CMD_BASE = 0xE0,
    IOMMUFD_SIM_CMD_FAULT_LOG_ALLOC = IOMMUFD_SIM_CMD_BASE,
    IOMMUFD_SIM_CMD_VTD_INVALIDATE_FAIL,
};

/**
 * Opens a log of failed DMA. The log shows what a driver reads from the fault registers of a real
 * unit, and what a host administrator finds in the kernel's messages. Page requests and vIOMMU
 * events are not logged, because they have queues of their own.
 *
 * The fd (O_RDWR | O_CLOEXEC) reports the faults from now on, of one device or of every device that
 * is or will be bound to this iommufd. Each log has its own copy of every record. Closing the fd
 * ends the log, which is no object and has no id.
 *   read   Returns as many whole struct iommufd_sim_fault as fit, the oldest first, and 0 when
 *          there is none. Does not block. ESPIPE: the size is no multiple of the record's size, or an
 *          offset is given.
 *   write  EINVAL.
 *   poll   POLLIN while there are records.
 * A full log keeps its oldest records and loses new ones. The first record that is stored after a
 * loss has IOMMUFD_SIM_FAULT_OVERFLOW. DMA never waits for a log.
 *
 * ENOENT: dev_id is not a bound device of this iommufd. EMFILE: no fd is free.
 */
struct iommufd_sim_fault_log_alloc {
    __u32 size;
    __u32 flags;
    __u32 dev_id; /**< a bound device, or 0 for all */
    __u32 out_fd;
};
#define IOMMUFD_SIM_FAULT_LOG_ALLOC \
    _IOWR(IOMMUFD_TYPE, IOMMUFD_SIM_CMD_FAULT_LOG_ALLOC, struct iommufd_sim_fault_log_alloc)

/** Values of iommufd_sim_fault.type. A client should skip records of unknown types. */
enum iommufd_sim_fault_type {
    IOMMUFD_SIM_FAULT_TYPE_DMA = 1, /**< a DMA request was not translated or not permitted */
};

/** Flags of iommufd_sim_fault. An atomic operation has READ and WRITE. */
enum iommufd_sim_fault_flags {
    IOMMUFD_SIM_FAULT_READ = 1 << 0,
    IOMMUFD_SIM_FAULT_WRITE = 1 << 1,
    IOMMUFD_SIM_FAULT_PASID_VALID = 1 << 2, /**< the request had a PASID */
    IOMMUFD_SIM_FAULT_EXEC = 1 << 3,        /**< the request asked for execute permission */
    IOMMUFD_SIM_FAULT_PRIV = 1 << 4,        /**< the request was privileged */
    IOMMUFD_SIM_FAULT_OVERFLOW = 1 << 5,    /**< records were lost before this record */
};

/**
 * A record of a fault log: 64 bytes, in native byte order except raw.
 *
 * reason is the code of the unit's architecture: the VT-d fault reason (FR), the SMMUv3 event
 * number or the AMD-Vi event code. raw is the record that such a unit stores in registers or
 * memory, the lowest address first: a VT-d fault recording register, an SMMUv3 event record or an
 * AMD-Vi event log entry. Zeros follow it.
 */
struct iommufd_sim_fault {
    __u32 type;         /**< enum iommufd_sim_fault_type */
    __u32 reason;       /**< the code of the unit's architecture */
    __u32 flags;        /**< enum iommufd_sim_fault_flags */
    __u32 dev_id;       /**< the bound device's object id */
    __u32 requester;    /**< PCI requester id: bus << 8 | device << 3 | function */
    __u32 pasid;        /**< with IOMMUFD_SIM_FAULT_PASID_VALID, else 0 */
    __aligned_u64 iova; /**< IOVA of the first byte that failed */
    __aligned_u64 raw[4];
};

/* ---- VT-d invalidation with error reporting: --extension vtd-invalidation-errors -------------- */

/** Bits of iommufd_sim_vtd_s1_invalidate.error, named after those of the fault status register. */
enum iommufd_sim_vtd_s1_invalidate_error {
    IOMMUFD_SIM_VTD_S1_INVALIDATE_ICE = 1 << 0, /**< the device completed with an error */
    IOMMUFD_SIM_VTD_S1_INVALIDATE_ITE = 1 << 1, /**< the device did not complete in time */
    IOMMUFD_SIM_VTD_S1_INVALIDATE_IQE = 1 << 2, /**< the queue rejected the descriptor */
};

/**
 * An entry of IOMMU_HWPT_INVALIDATE as it was proposed in December 2023, for data_type
 * IOMMU_HWPT_INVALIDATE_DATA_VTD_S1. An entry_len of 32 selects it; the kernel's entry has 24
 * bytes, and 32 is EINVAL there. The first four members are those of the kernel's entry.
 *
 * error and dev_id are written back for every entry that entry_num counts. They are 0 and 0 when
 * the entry was done. An entry with an error was given to the hardware, which did neither the
 * operation that failed nor the operations of the entry behind it. The ioctl continues with the
 * next entry and returns 0. An error that software finds is an errno, as for the kernel's entries,
 * and ends the call.
 */
struct iommufd_sim_vtd_s1_invalidate {
    __aligned_u64 addr;
    __aligned_u64 npages;
    __u32 flags;
    __u32 __reserved;
    __u32 error;  /**< enum iommufd_sim_vtd_s1_invalidate_error */
    __u32 dev_id; /**< the device of the failed operation: virt_id of its vDEVICE, else its id */
};

/**
 * A type of IOMMU_VIOMMU_ALLOC for VT-d units, without data, so that their devices can have
 * vDEVICEs. Such a vIOMMU has no queues. Nested HWPTs can be made on it. Without the extension the
 * type is EOPNOTSUPP.
 */
enum iommufd_sim_viommu_type {
    IOMMUFD_SIM_VIOMMU_TYPE_VTD = 0x40000001,
};

/** Values of iommufd_sim_vtd_invalidate_fail.operation. */
enum iommufd_sim_vtd_operation {
    IOMMUFD_SIM_VTD_OPERATION_DEVICE_TLB = 1, /**< device TLB invalidations of the device */
    IOMMUFD_SIM_VTD_OPERATION_QUEUE = 2,      /**< those, and IOTLB invalidations of its tables */
};

/** Flags of iommufd_sim_vtd_invalidate_fail. */
enum iommufd_sim_vtd_invalidate_fail_flags {
    IOMMUFD_SIM_VTD_INVALIDATE_FAIL_CLEAR = 1 << 0, /**< cancel all plans of the device */
};

/**
 * Plans a failure of the unit in front of a bound device: the nth operation from now on that
 * IOMMU_HWPT_INVALIDATE causes for the device fails. Each plan fails one operation. A device can
 * have 64 plans at a time, which end with its binding. Invalidations that the server does itself
 * never fail.
 *
 * A device TLB operation can fail with each error, a queue operation only with IQE. EINVAL for
 * another combination, for an nth of 0 and for several errors. EOPNOTSUPP for unknown flags, and
 * for a device that is not behind a VT-d unit. ENOENT: dev_id is not a bound device of this
 * iommufd. ENOSPC: the device has 64 plans. With CLEAR the last three members must be 0 (EINVAL).
 */
struct iommufd_sim_vtd_invalidate_fail {
    __u32 size;
    __u32 flags;
    __u32 dev_id;
    __u32 operation; /**< enum iommufd_sim_vtd_operation */
    __u32 error;     /**< one of enum iommufd_sim_vtd_s1_invalidate_error */
    __u32 nth;       /**< 1: the next operation */
};
#define IOMMUFD_SIM_VTD_INVALIDATE_FAIL \
    _IOWR(IOMMUFD_TYPE, IOMMUFD_SIM_CMD_VTD_INVALIDATE_FAIL, struct iommufd_sim_vtd_invalidate_fail)

/* ---- registers without mmap: --extension register-calls --------------------------------------- */

/**
 * Registers that can be mapped from an iommufd at an offset (page 0 of the virtual interface of a
 * Tegra241) can also be read and written with pread and pwrite, at this constant plus that offset.
 * An access has 4 bytes and is aligned. A client uses either the mapping or pread and pwrite.
 * EINVAL where there is no register, as pread and pwrite are everywhere on a kernel's iommufd.
 */
#define IOMMUFD_SIM_REGISTERS (1LL << 40)

/* ---- VFIO type1 shared virtual addressing: --extension vfio-sva -------------------------------- */

/*
 * The interface that was proposed in 2020, with the names of the proposal and of <linux/iommu.h> in
 * Linux 5.10. The commands are commands of the VFIO container: they work on the IOAS of
 * IOMMU_VFIO_IOAS. docs/extensions.md has the rules. Without the extension they are ENOTTY.
 */

/** A container type: HWPTs of devices that are attached later can be nesting parents. */
#ifndef VFIO_TYPE1_NESTING_IOMMU
#define VFIO_TYPE1_NESTING_IOMMU 6
#endif

/**
 * Allocates or frees PASIDs. The whole machine has one PASID space. alloc_pasid and free_pasid are
 * the form of the first version of the proposal, and of its variant with data[]: argsz is at least
 * 20 for ALLOC and at least 12 for FREE. range is the form of the later versions, which have an
 * argsz of exactly 16: ALLOC returns the PASID as the result of the ioctl, and FREE frees the
 * PASIDs of the caller from min to max, both included.
 *
 * EINVAL: argsz or flags are wrong, or min is above max. ENOSPC: the quota or the range is used up.
 * ENOENT: FREE of a PASID that is not allocated. EACCES: FREE of a PASID that another process has
 * allocated. EBUSY: FREE of a PASID to which another open iommufd has bound a table.
 */
struct vfio_iommu_type1_pasid_request {
    __u32 argsz;
    __u32 flags;
#define VFIO_IOMMU_PASID_ALLOC (1 << 0)
#define VFIO_IOMMU_PASID_FREE (1 << 1)
    union {
        struct {
            __u32 min;
            __u32 max;
            __u32 result; /**< out */
        } alloc_pasid;
        __u32 free_pasid;
        struct {
            __u32 min;
            __u32 max;
        } range;
    };
};
#define VFIO_IOMMU_PASID_REQUEST _IO(VFIO_TYPE, VFIO_BASE + 22)

/** Binds a guest's page table to a PASID of every device of the container, or unbinds it. */
struct vfio_iommu_type1_bind {
    __u32 argsz;
    __u32 flags;
#define VFIO_IOMMU_BIND_GUEST_PGTBL (1 << 0)
#define VFIO_IOMMU_UNBIND_GUEST_PGTBL (1 << 1)
    __u8 data[]; /**< struct iommu_gpasid_bind_data */
};
#define VFIO_IOMMU_BIND _IO(VFIO_TYPE, VFIO_BASE + 23)

#ifndef _UAPI_IOMMU_H /* <linux/iommu.h> of Linux 5.10 to 5.18 defines these as well */
struct iommu_gpasid_bind_data_vtd {
#define IOMMU_SVA_VTD_GPASID_SRE (1 << 0)  /* supervisor requests */
#define IOMMU_SVA_VTD_GPASID_EAFE (1 << 1) /* extended accessed flag */
#define IOMMU_SVA_VTD_GPASID_PCD (1 << 2)  /* memory types: EINVAL */
#define IOMMU_SVA_VTD_GPASID_PWT (1 << 3)
#define IOMMU_SVA_VTD_GPASID_EMTE (1 << 4)
#define IOMMU_SVA_VTD_GPASID_CD (1 << 5)
#define IOMMU_SVA_VTD_GPASID_WPE (1 << 6) /* write protection, with SRE */
#define IOMMU_SVA_VTD_GPASID_LAST (1 << 7)
    __u64 flags;
    __u32 pat;
    __u32 emt;
};

struct iommu_gpasid_bind_data {
    __u32 argsz;
#define IOMMU_GPASID_BIND_VERSION_1 1
    __u32 version;
#define IOMMU_PASID_FORMAT_INTEL_VTD 1
#define IOMMU_PASID_FORMAT_LAST 2
    __u32 format;
    __u32 addr_width; /**< 48, or 57 where the unit has five levels */
#define IOMMU_SVA_GPASID_VAL (1 << 0)
    __u64 flags;
    __u64 gpgd;   /**< guest physical address of the table */
    __u64 hpasid; /**< from VFIO_IOMMU_PASID_REQUEST; UNBIND reads only this member */
    __u64 gpasid; /**< with IOMMU_SVA_GPASID_VAL; has no effect here */
    __u8 padding[8];
    union {
        struct iommu_gpasid_bind_data_vtd vtd;
    } vendor;
};

enum iommu_inv_granularity {
    IOMMU_INV_GRANU_DOMAIN, /**< every PASID of the container; no further argument */
    IOMMU_INV_GRANU_PASID,
    IOMMU_INV_GRANU_ADDR,
    IOMMU_INV_GRANU_NR,
};

struct iommu_inv_pasid_info {
#define IOMMU_INV_PASID_FLAGS_PASID (1 << 0)
#define IOMMU_INV_PASID_FLAGS_ARCHID (1 << 1)
    __u32 flags;
    __u32 archid;
    __u64 pasid;
};

struct iommu_inv_addr_info {
#define IOMMU_INV_ADDR_FLAGS_PASID (1 << 0)
#define IOMMU_INV_ADDR_FLAGS_ARCHID (1 << 1)
#define IOMMU_INV_ADDR_FLAGS_LEAF (1 << 2)
    __u32 flags;
    __u32 archid;
    __u64 pasid;
    __u64 addr;
    __u64 granule_size;
    __u64 nb_granules;
};

struct iommu_cache_invalidate_info {
    __u32 argsz; /**< 16 for DOMAIN, 32 for PASID, 56 for ADDR, or more */
#define IOMMU_CACHE_INVALIDATE_INFO_VERSION_1 1
    __u32 version;
#define IOMMU_CACHE_INV_TYPE_IOTLB (1 << 0)     /* includes the device TLBs */
#define IOMMU_CACHE_INV_TYPE_DEV_IOTLB (1 << 1) /* by PASID or ADDR */
#define IOMMU_CACHE_INV_TYPE_PASID (1 << 2)     /* by DOMAIN or PASID */
#define IOMMU_CACHE_INV_TYPE_NR 3
    __u8 cache;
    __u8 granularity;
    __u8 padding[6];
    union {
        struct iommu_inv_pasid_info pasid_info;
        struct iommu_inv_addr_info addr_info;
    } granu;
};
#endif

struct vfio_iommu_type1_cache_invalidate {
    __u32 argsz;
    __u32 flags; /**< 0 */
    struct iommu_cache_invalidate_info cache_info;
};
#define VFIO_IOMMU_CACHE_INVALIDATE _IO(VFIO_TYPE, VFIO_BASE + 24)

#endif /* IOMMUFD_SIM_H */

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iommufd-sim: what the simulator's /dev/iommu has and the kernel's does not.
 *
 * These commands follow the conventions of <linux/iommufd.h>. Their numbers are far from the
 * kernel's, and unlike the kernel's they carry direction and size, so no plain _IO() number is one of
 * them. On a real /dev/iommu they are ENOTTY, so a client can try and go without.
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
 * Opens a log of failed DMA: what a host administrator finds in the kernel's messages, and the
 * driver of a real unit in its fault registers. Page requests and vIOMMU events are not logged;
 * they have queues of their own.
 *
 * The fd (O_RDWR | O_CLOEXEC) reports faults from now on, of one device or of every device bound to
 * this iommufd now or later. Each log has its own copy of every record. Closing the fd ends it; it
 * is no object and has no id.
 *   read   as many whole struct iommufd_sim_fault, oldest first, as there are and fit. 0: none.
 *          Never blocks. ESPIPE: the size is no multiple of the record, or an offset is given.
 *   write  EINVAL
 *   poll   POLLIN while there are records
 * A log that is not read keeps its oldest records and loses the newest; the first record stored
 * after a loss has IOMMUFD_SIM_FAULT_OVERFLOW. DMA never waits for a log.
 *
 * ENOENT: dev_id is no bound device of this iommufd. EMFILE: no fd is free.
 */
struct iommufd_sim_fault_log_alloc {
    __u32 size;
    __u32 flags;
    __u32 dev_id; /**< a bound device, or 0 for all */
    __u32 out_fd;
};
#define IOMMUFD_SIM_FAULT_LOG_ALLOC \
    _IOWR(IOMMUFD_TYPE, IOMMUFD_SIM_CMD_FAULT_LOG_ALLOC, struct iommufd_sim_fault_log_alloc)

/** Values of iommufd_sim_fault.type. Skip what you do not know: others may come. */
enum iommufd_sim_fault_type {
    IOMMUFD_SIM_FAULT_TYPE_DMA = 1, /**< a DMA request was not translated, or not permitted */
};

/** Flags of iommufd_sim_fault. The request had READ, WRITE or (an atomic operation) both. */
enum iommufd_sim_fault_flags {
    IOMMUFD_SIM_FAULT_READ = 1 << 0,
    IOMMUFD_SIM_FAULT_WRITE = 1 << 1,
    IOMMUFD_SIM_FAULT_PASID_VALID = 1 << 2, /**< it had a PASID */
    IOMMUFD_SIM_FAULT_EXEC = 1 << 3,        /**< it asked to execute */
    IOMMUFD_SIM_FAULT_PRIV = 1 << 4,        /**< it was privileged */
    IOMMUFD_SIM_FAULT_OVERFLOW = 1 << 5,    /**< records were lost before this one */
};

/**
 * One record of a fault log: 64 bytes, native byte order except raw.
 *
 * reason is the unit's own code: VT-d fault reason (FR), SMMUv3 event number, AMD-Vi event code.
 * raw is the record that the unit would store in memory or registers, lowest address first,
 * followed by zeros: VT-d fault recording register, SMMUv3 event record, AMD-Vi event log entry.
 */
struct iommufd_sim_fault {
    __u32 type;         /**< enum iommufd_sim_fault_type */
    __u32 reason;       /**< why */
    __u32 flags;        /**< enum iommufd_sim_fault_flags */
    __u32 dev_id;       /**< the bound device's object id */
    __u32 requester;    /**< PCI requester id: bus << 8 | device << 3 | function */
    __u32 pasid;        /**< with IOMMUFD_SIM_FAULT_PASID_VALID, else 0 */
    __aligned_u64 iova; /**< first byte that failed, as the device asked for it */
    __aligned_u64 raw[4];
};

/* ---- VT-d invalidation with error reporting: --extension vtd-invalidation-errors -------------- */

/** Bits of iommufd_sim_vtd_s1_invalidate.error: what the unit has in its fault status register. */
enum iommufd_sim_vtd_s1_invalidate_error {
    IOMMUFD_SIM_VTD_S1_INVALIDATE_ICE = 1 << 0, /**< the device's completion was wrong */
    IOMMUFD_SIM_VTD_S1_INVALIDATE_ITE = 1 << 1, /**< the device did not complete in time */
    IOMMUFD_SIM_VTD_S1_INVALIDATE_IQE = 1 << 2, /**< the queue did not take the descriptor */
};

/**
 * An entry of IOMMU_HWPT_INVALIDATE as it was proposed in December 2023, for data_type
 * IOMMU_HWPT_INVALIDATE_DATA_VTD_S1. Its length in entry_len selects it: 32, where the kernel's is 24
 * and 32 is EINVAL. The first four members are the kernel's.
 *
 * error and dev_id are written back for every entry that entry_num counts, 0 and 0 when all of it was
 * done. An entry with an error was handed to the hardware, which did not do the operation that failed
 * nor those of this entry behind it; the ioctl goes on with the next entry and returns 0. Errors that
 * software finds are errno, as for the kernel's entries, and end the call.
 */
struct iommufd_sim_vtd_s1_invalidate {
    __aligned_u64 addr;
    __aligned_u64 npages;
    __u32 flags;
    __u32 __reserved;
    __u32 error;  /**< enum iommufd_sim_vtd_s1_invalidate_error */
    __u32 dev_id; /**< whose operation failed: its vdevice's virt_id if it has one, else its id */
};

/**
 * Type of IOMMU_VIOMMU_ALLOC, without data, of a VT-d unit, so that its devices can have vdevices. It has
 * no queues of its own; nested tables can be made on it. Without the extension: EOPNOTSUPP.
 */
enum iommufd_sim_viommu_type {
    IOMMUFD_SIM_VIOMMU_TYPE_VTD = 0x40000001,
};

/** Values of iommufd_sim_vtd_invalidate_fail.operation. */
enum iommufd_sim_vtd_operation {
    IOMMUFD_SIM_VTD_OPERATION_DEVICE_TLB = 1, /**< device-TLB invalidations of the device */
    IOMMUFD_SIM_VTD_OPERATION_QUEUE = 2,      /**< these, and IOTLB invalidations of its tables */
};

/** Flags of iommufd_sim_vtd_invalidate_fail. */
enum iommufd_sim_vtd_invalidate_fail_flags {
    IOMMUFD_SIM_VTD_INVALIDATE_FAIL_CLEAR = 1 << 0, /**< forget what was planned for the device */
};

/**
 * Tells the unit in front of a bound device to fail the nth operation, from now on, that
 * IOMMU_HWPT_INVALIDATE makes it do for the device. Each plan fails one operation; up to 64 wait per
 * device, and they go with its binding. What the kernel itself invalidates never fails.
 *
 * A device-TLB operation can have each error, a queue operation IQE only: EINVAL otherwise, as for an
 * nth of 0 and for several errors. EOPNOTSUPP: unknown flags, or the device is not behind a VT-d unit.
 * ENOENT: dev_id is no bound device of this iommufd. ENOSPC: 64 plans are waiting.
 * With CLEAR the last three members must be 0 (EINVAL).
 */
struct iommufd_sim_vtd_invalidate_fail {
    __u32 size;
    __u32 flags;
    __u32 dev_id;
    __u32 operation; /**< enum iommufd_sim_vtd_operation */
    __u32 error;     /**< one of enum iommufd_sim_vtd_s1_invalidate_error */
    __u32 nth;       /**< 1: the next one */
};
#define IOMMUFD_SIM_VTD_INVALIDATE_FAIL \
    _IOWR(IOMMUFD_TYPE, IOMMUFD_SIM_CMD_VTD_INVALIDATE_FAIL, struct iommufd_sim_vtd_invalidate_fail)

/* ---- registers without mmap: --extension register-calls --------------------------------------- */

/**
 * What can be mapped from an iommufd at an offset, and is registers (page 0 of a Tegra241's virtual
 * interface), can also be read and written by pread and pwrite at this + that offset: 4 bytes, aligned,
 * at a time. A client does one or the other. Where there is no register: EINVAL, as of a kernel's
 * iommufd everywhere.
 */
#define IOMMUFD_SIM_REGISTERS (1LL << 40)

/* ---- VFIO type1 shared virtual addressing: --extension vfio-sva -------------------------------- */

/*
 * As proposed in 2020, with the names of that proposal and of Linux 5.10's <linux/iommu.h>. The
 * commands are the VFIO container's and work, as its others do, on the IOAS of IOMMU_VFIO_IOAS.
 * docs/extensions.md has the rules. Without the extension their numbers are ENOTTY.
 */

/** For VFIO_SET_IOMMU and VFIO_CHECK_EXTENSION: tables of devices attached later can be nested on. */
#ifndef VFIO_TYPE1_NESTING_IOMMU
#define VFIO_TYPE1_NESTING_IOMMU 6
#endif

/**
 * PASIDs: one space for the whole machine. alloc_pasid and free_pasid are the first version's, and what
 * its variant with data[] has there: argsz is at least 20 to allocate, and at least 12 to free. range is
 * the later versions', known by an argsz of just 16: ALLOC returns the PASID as the ioctl's result, and
 * FREE frees those of the range, both ends included, that are the caller's.
 *
 * EINVAL: argsz or flags, or min is above max. ENOSPC: the quota is used up, or all of the range.
 * ENOENT: to free a PASID that is not allocated. EACCES: ... that another process has allocated.
 * EBUSY: ... to which another open iommufd has bound a table.
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

/** Binds a guest's page table to a PASID of every device of the container, or undoes that. */
struct vfio_iommu_type1_bind {
    __u32 argsz;
    __u32 flags;
#define VFIO_IOMMU_BIND_GUEST_PGTBL (1 << 0)
#define VFIO_IOMMU_UNBIND_GUEST_PGTBL (1 << 1)
    __u8 data[]; /**< struct iommu_gpasid_bind_data */
};
#define VFIO_IOMMU_BIND _IO(VFIO_TYPE, VFIO_BASE + 23)

#ifndef _UAPI_IOMMU_H /* which Linux 5.10 to 5.18 define these in */
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
    __u64 gpgd;   /**< the table's address in the guest */
    __u64 hpasid; /**< from VFIO_IOMMU_PASID_REQUEST; all that UNBIND looks at */
    __u64 gpasid; /**< with IOMMU_SVA_GPASID_VAL; nothing here depends on it */
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
#define IOMMU_CACHE_INV_TYPE_IOTLB (1 << 0)     /* with it the device TLBs */
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

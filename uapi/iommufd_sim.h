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
#include <linux/types.h>

/** The "nr" byte of each request number. */
enum {
    IOMMUFD_SIM_CMD_BASE = 0xE0,
    IOMMUFD_SIM_CMD_FAULT_LOG_ALLOC = IOMMUFD_SIM_CMD_BASE,
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

#endif /* IOMMUFD_SIM_H */

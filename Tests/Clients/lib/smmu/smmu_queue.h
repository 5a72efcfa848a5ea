/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual command queue (VCMDQ) of Tegra241's CMDQV as the guest's driver uses it: a ring in the
 * guest's memory, and registers in a page that is mapped from the iommufd.
 */
#ifndef SMMU_QUEUE_H
#define SMMU_QUEUE_H

#include "smmu/smmu_driver.h"

enum { CMDQV = IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV, QUEUE = IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV,
       QUEUE_ERRORS = IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV };

/* ---- the VMM: commands that may fail ------------------------------------------------------- */

/**
 * Returns 0 or the errno. Stores the length of the data, or 0 when the data type is another one.
 */
int try_get_hw_info(uint32_t device, uint32_t type, void *data, uint32_t length,
                    uint32_t *data_length);

/** Returns the ID of the vIOMMU, or minus the errno. */
long try_viommu_alloc(uint32_t device, uint32_t hwpt, uint32_t type, void *data, uint32_t length);

/** Returns the ID of the vDEVICE, or minus the errno. */
long try_vdevice_alloc(uint64_t virt_id);

/** Returns the ID of the hardware queue, or minus the errno. */
long try_hw_queue_alloc(uint32_t viommu, uint32_t type, uint32_t index, uint64_t base,
                        uint64_t length);

/** Returns 0 or the errno. */
int try_destroy(uint32_t id);

/** Requires that `result` is minus `error`. */
void require_errno(long result, int error, const char *what);

struct vcmdq_event {
    struct iommufd_vevent_header header;
    struct iommu_vevent_tegra241_cmdqv errors;
};

/* ---- the guest's driver: registers and ring ------------------------------------------------ */

/** Indices of the 32-bit registers of a queue, which has 0x80 bytes of the page. */
enum { CONS_INDX, PROD_INDX, CONFIG_EN, STATUS_EN_OK, GERROR, GERRORN, QUEUE_STRIDE = 0x80 };
enum { VINTF_LENGTH = 0x10000 };

/** Values of CONS_INDX.ERR. */
enum { CERROR_ILL_OPCODE = 1, CERROR_ABT, CERROR_ATC_INV_SYNC, CERROR_ILL_ACCESS };

struct vcmdq {
    uint32_t *registers; /* the mapped registers, or NULL: then pread() and pwrite() access them */
    off_t offset;        /* of the registers in the iommufd */
    struct smmu_command *ring;
    uint32_t entries; /* a power of two */
    uint32_t producer;
};

/**
 * Returns queue `index` of the virtual interface whose page is mapped at `page`, or, when that is
 * NULL, begins at `offset` of the iommufd.
 */
struct vcmdq vcmdq_at(void *page, uint64_t offset, unsigned index, uint64_t ring,
                      uint32_t entries);

uint32_t vcmdq_get(const struct vcmdq *queue, int index);

void vcmdq_set(const struct vcmdq *queue, int index, uint32_t value);

/** Waits until the bits `mask` of a register are `value`. Returns false after 10 seconds. */
bool vcmdq_await(const struct vcmdq *queue, int index, uint32_t mask, uint32_t value);

/** Enables or disables the queue, and waits until it is. */
bool vcmdq_enable(const struct vcmdq *queue, uint32_t on);

/** Adds a command to the ring. The unit sees it after vcmdq_ring(). */
void vcmdq_push(struct vcmdq *queue, struct smmu_command command);

/** Writes PROD_INDX. */
void vcmdq_ring(const struct vcmdq *queue);

/** Waits until the unit has consumed all commands. */
bool vcmdq_is_done(const struct vcmdq *queue);

/** Adds a command and a CMD_SYNC, and waits until the unit has consumed them. */
bool vcmdq_execute(struct vcmdq *queue, struct smmu_command command);

/** Returns a CMD_SYNC with completion signal `signal`. */
struct smmu_command cmd_sync(unsigned signal);

#endif /* SMMU_QUEUE_H */

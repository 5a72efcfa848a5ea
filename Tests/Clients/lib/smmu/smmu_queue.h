/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command queue of a Tegra241's virtual interface, as the guest's driver uses it: a ring in the guest's
 * memory, and registers in a page that is mapped from the iommufd.
 */
#ifndef SMMU_QUEUE_H
#define SMMU_QUEUE_H

#include "smmu/smmu_driver.h"

#include "iommufd_sim.h"

#include <sched.h>
#include <time.h>

enum { CMDQV = IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV, QUEUE = IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV,
       QUEUE_ERRORS = IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV };

/* ---- what the VMM asks for ---------------------------------------------------------------- */

/** Gives 0 or the error. */
static inline int hw_info(uint32_t device, uint32_t type, void *data, uint32_t length, uint32_t *told)
{
    struct iommu_hw_info cmd = {.size = sizeof(cmd), .flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE,
                                .dev_id = device, .data_len = length, .data_uptr = (uintptr_t)data,
                                .in_data_type = type};

    if (ioctl(iommufd, IOMMU_GET_HW_INFO, &cmd))
        return errno;
    *told = cmd.out_data_type == type ? cmd.data_len : 0;
    return 0;
}

/** Gives the id, or minus the error. */
static inline long make_viommu(uint32_t of, uint32_t on, uint32_t type, void *data, uint32_t length)
{
    struct iommu_viommu_alloc cmd = viommu_arguments(of, on, type, data, length);

    return ioctl(iommufd, IOMMU_VIOMMU_ALLOC, &cmd) ? -errno : (long)cmd.out_viommu_id;
}

static inline long make_vdevice(uint64_t name)
{
    struct iommu_vdevice_alloc cmd = vdevice_arguments(viommu, device_id, name);

    return ioctl(iommufd, IOMMU_VDEVICE_ALLOC, &cmd) ? -errno : (long)cmd.out_vdevice_id;
}

static inline long make_queue(uint32_t on, uint32_t type, uint32_t index, uint64_t base, uint64_t length)
{
    struct iommu_hw_queue_alloc cmd = {.size = sizeof(cmd), .viommu_id = on, .type = type,
                                       .index = index, .nesting_parent_iova = base,
                                       .length = length};

    return ioctl(iommufd, IOMMU_HW_QUEUE_ALLOC, &cmd) ? -errno : (long)cmd.out_hw_queue_id;
}

static inline int remove_object(uint32_t id)
{
    struct iommu_destroy cmd = {.size = sizeof(cmd), .id = id};

    return ioctl(iommufd, IOMMU_DESTROY, &cmd) ? errno : 0;
}

static inline void fails(long result, int error, const char *what)
{
    if (result != -error)
        printf("%ld: %s\n", result, errno_name((int)-result));
    check(result == -error, "%s: %s", what, errno_name(error));
}

struct queue_event {
    struct iommufd_vevent_header header;
    struct iommu_vevent_tegra241_cmdqv errors;
};

/* ---- registers and ring ------------------------------------------------------------------- */

/** 32-bit registers of one queue, in the page; a queue has 0x80 bytes of it. */
enum { CONS_INDX, PROD_INDX, CONFIG_EN, STATUS_EN_OK, GERROR, GERRORN, QUEUE_STRIDE = 0x80 };
enum { INDEX = 0xfffff, VINTF_LENGTH = 0x10000 };

/** CONS_INDX.ERR */
enum { CERROR_ILL_OPCODE = 1, CERROR_ABT, CERROR_ATC_INV_SYNC, CERROR_ILL_ACCESS };

struct queue {
    uint32_t *registers; /* NULL: they are reached by calls, at `place` */
    off_t place;
    struct smmu_command *ring;
    uint32_t entries; /* a power of two */
    uint32_t producer;
};

static inline uint32_t get(const struct queue *queue, int index)
{
    uint32_t value;

    if (queue->registers)
        return __atomic_load_n(&queue->registers[index], __ATOMIC_ACQUIRE);
    if (pread(iommufd, &value, 4, queue->place + 4 * index) != 4)
        exit(2);
    return value;
}

static inline void set(const struct queue *queue, int index, uint32_t value)
{
    if (queue->registers)
        __atomic_store_n(&queue->registers[index], value, __ATOMIC_RELEASE);
    else if (pwrite(iommufd, &value, 4, queue->place + 4 * index) != 4)
        exit(2);
}

/** Waits until a register is `value`, but for the bits outside of `mask`; not for ever. */
static inline bool becomes(const struct queue *queue, int index, uint32_t mask, uint32_t value)
{
    time_t end = time(NULL) + 10;

    while ((get(queue, index) & mask) != value) {
        if (time(NULL) > end) {
            printf("register %d is %#x, not %#x\n", index, get(queue, index), value);
            return false;
        }
        sched_yield();
    }
    return true;
}

/** A queue of the interface whose page is mapped at `page`, or is at `offset` of the iommufd. */
static inline struct queue queue_at(void *page, uint64_t offset, unsigned index, uint64_t ring,
                                    uint32_t entries)
{
    struct queue queue = {.ring = at(ring), .entries = entries};

    if (page)
        queue.registers = (uint32_t *)((char *)page + index * QUEUE_STRIDE);
    else
        queue.place = (off_t)((uint64_t)IOMMUFD_SIM_REGISTERS + offset + index * QUEUE_STRIDE);
    return queue;
}

static inline bool enable(const struct queue *queue, uint32_t on)
{
    set(queue, CONFIG_EN, on);
    return becomes(queue, STATUS_EN_OK, 1, on);
}

/** Puts a command behind the others; the unit is not told. */
static inline void push(struct queue *queue, struct smmu_command command)
{
    queue->ring[queue->producer & (queue->entries - 1)] = command;
    queue->producer = (queue->producer + 1) & (2 * queue->entries - 1);
}

static inline void ring_bell(const struct queue *queue)
{
    set(queue, PROD_INDX, queue->producer);
}

static inline bool is_done(const struct queue *queue)
{
    return becomes(queue, CONS_INDX, ~0u, queue->producer);
}

/** CMD_SYNC; `signal`: how it tells that it is done. */
static inline struct smmu_command synchronize(unsigned signal)
{
    return (struct smmu_command){{0x46 | (uint64_t)signal << 12, 0}};
}

/** Has one command executed. */
static inline bool execute(struct queue *queue, struct smmu_command command)
{
    push(queue, command);
    push(queue, synchronize(0));
    ring_bell(queue);
    return is_done(queue);
}

#endif /* SMMU_QUEUE_H */

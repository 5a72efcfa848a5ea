/* SPDX-License-Identifier: Apache-2.0 */
#include "smmu/smmu_queue.h"

#include <sched.h>
#include <time.h>

#include "iommufd_sim.h"

int try_get_hw_info(uint32_t device, uint32_t type, void *data, uint32_t length,
                    uint32_t *data_length)
{
    struct iommu_hw_info cmd = {.size = sizeof(cmd), .flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE,
                                .dev_id = device, .data_len = length, .data_uptr = (uintptr_t)data,
                                .in_data_type = type};

    if (ioctl(iommufd, IOMMU_GET_HW_INFO, &cmd))
        return errno;
    *data_length = cmd.out_data_type == type ? cmd.data_len : 0;
    return 0;
}

long try_viommu_alloc(uint32_t device, uint32_t hwpt, uint32_t type, void *data, uint32_t length)
{
    struct iommu_viommu_alloc cmd = viommu_arguments(device, hwpt, type, data, length);

    return ioctl(iommufd, IOMMU_VIOMMU_ALLOC, &cmd) ? -errno : (long)cmd.out_viommu_id;
}

long try_vdevice_alloc(uint64_t virt_id)
{
    struct iommu_vdevice_alloc cmd = vdevice_arguments(viommu, device_id, virt_id);

    return ioctl(iommufd, IOMMU_VDEVICE_ALLOC, &cmd) ? -errno : (long)cmd.out_vdevice_id;
}

long try_hw_queue_alloc(uint32_t viommu, uint32_t type, uint32_t index, uint64_t base,
                        uint64_t length)
{
    struct iommu_hw_queue_alloc cmd = {.size = sizeof(cmd),
                                       .viommu_id = viommu,
                                       .type = type,
                                       .index = index,
                                       .nesting_parent_iova = base,
                                       .length = length};

    return ioctl(iommufd, IOMMU_HW_QUEUE_ALLOC, &cmd) ? -errno : (long)cmd.out_hw_queue_id;
}

int try_destroy(uint32_t id)
{
    struct iommu_destroy cmd = {.size = sizeof(cmd), .id = id};

    return ioctl(iommufd, IOMMU_DESTROY, &cmd) ? errno : 0;
}

void require_errno(long result, int error, const char *what)
{
    if (result != -error)
        printf("%ld: %s\n", result, errno_name((int)-result));
    require(result == -error, "%s: %s", what, errno_name(error));
}

uint32_t vcmdq_get(const struct vcmdq *queue, int index)
{
    uint32_t value;

    if (queue->registers)
        return __atomic_load_n(&queue->registers[index], __ATOMIC_ACQUIRE);
    if (pread(iommufd, &value, 4, queue->offset + 4 * index) != 4)
        exit(2);
    return value;
}

void vcmdq_set(const struct vcmdq *queue, int index, uint32_t value)
{
    if (queue->registers)
        __atomic_store_n(&queue->registers[index], value, __ATOMIC_RELEASE);
    else if (pwrite(iommufd, &value, 4, queue->offset + 4 * index) != 4)
        exit(2);
}

bool vcmdq_await(const struct vcmdq *queue, int index, uint32_t mask, uint32_t value)
{
    time_t end = time(NULL) + 10;

    while ((vcmdq_get(queue, index) & mask) != value) {
        if (time(NULL) > end) {
            printf("register %d is %#x, not %#x\n", index, vcmdq_get(queue, index), value);
            return false;
        }
        sched_yield();
    }
    return true;
}

struct vcmdq vcmdq_at(void *page, uint64_t offset, unsigned index, uint64_t ring, uint32_t entries)
{
    struct vcmdq queue = {.ring = guest_at(ring), .entries = entries};

    if (page)
        queue.registers = (uint32_t *)((char *)page + index * QUEUE_STRIDE);
    else
        queue.offset = (off_t)((uint64_t)IOMMUFD_SIM_REGISTERS + offset + index * QUEUE_STRIDE);
    return queue;
}

bool vcmdq_enable(const struct vcmdq *queue, uint32_t on)
{
    vcmdq_set(queue, CONFIG_EN, on);
    return vcmdq_await(queue, STATUS_EN_OK, 1, on);
}

void vcmdq_push(struct vcmdq *queue, struct smmu_command command)
{
    queue->ring[queue->producer & (queue->entries - 1)] = command;
    queue->producer = (queue->producer + 1) & (2 * queue->entries - 1);
}

void vcmdq_ring(const struct vcmdq *queue)
{
    vcmdq_set(queue, PROD_INDX, queue->producer);
}

bool vcmdq_is_done(const struct vcmdq *queue)
{
    return vcmdq_await(queue, CONS_INDX, ~0u, queue->producer);
}

struct smmu_command cmd_sync(unsigned signal)
{
    return (struct smmu_command){{0x46 | (uint64_t)signal << 12, 0}};
}

bool vcmdq_execute(struct vcmdq *queue, struct smmu_command command)
{
    vcmdq_push(queue, command);
    vcmdq_push(queue, cmd_sync(0));
    vcmdq_ring(queue);
    return vcmdq_is_done(queue);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "siege.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>

double now_ms(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

bool make_missing(void *memory, size_t length)
{
    int descriptor = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {.range = {(uintptr_t)memory, length},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};

    return descriptor >= 0 && ioctl(descriptor, UFFDIO_API, &api) == 0 &&
           madvise(memory, length, MADV_DONTNEED) == 0 &&
           ioctl(descriptor, UFFDIO_REGISTER, &range) == 0;
}

void open_victim(struct victim *victim, int index)
{
    struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};

    victim->iommufd = open_iommufd();
    if (!bind_device(victim->iommufd, must_open_vfio_device(index), index, &victim->device))
        fatal("device %d cannot be bound", index);
    if (ioctl(victim->iommufd, IOMMU_IOAS_ALLOC, &alloc))
        fatal("IOMMU_IOAS_ALLOC: %s", strerror(errno));
    victim->ioas = alloc.out_ioas_id;
    if (attach_to(&victim->device, victim->ioas, NO_PASID))
        fatal("device %d cannot be attached", index);
}

static void map_with(struct victim *victim, void *page, size_t length, uint32_t rights)
{
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | rights,
        .ioas_id = victim->ioas,
        .user_va = (uintptr_t)page,
        .length = length,
        .iova = IOVA_OF_PAGE,
    };

    victim->page = page;
    if (ioctl(victim->iommufd, IOMMU_IOAS_MAP, &map))
        fatal("IOMMU_IOAS_MAP: %s", strerror(errno));
}

void map_page(struct victim *victim, void *page, size_t length)
{
    map_with(victim, page, length, IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE);
}

void map_for_reading(struct victim *victim, void *page, size_t length)
{
    map_with(victim, page, length, IOMMU_IOAS_MAP_READABLE);
}

void add_doorbell(struct victim *victim, uint32_t command)
{
    uint64_t iova = IOVA_OF_PAGE;
    struct vfio_device_ioeventfd event = {
        .argsz = sizeof(event),
        .flags = VFIO_DEVICE_IOEVENTFD_32,
        .offset = victim->device.registers + TEST_DEVICE_COMMAND,
        .data = command,
        .fd = victim->doorbell = eventfd(0, EFD_CLOEXEC),
    };

    if (pwrite(victim->device.fd, &iova, sizeof(iova),
               (off_t)victim->device.registers + TEST_DEVICE_ADDRESS) != sizeof(iova))
        fatal("the address register: %s", strerror(errno));
    if (ioctl(victim->device.fd, VFIO_DEVICE_IOEVENTFD, &event))
        fatal("VFIO_DEVICE_IOEVENTFD: %s", strerror(errno));
}

void ring(const struct victim *victim)
{
    uint64_t one = 1;

    if (write(victim->doorbell, &one, sizeof(one)) != sizeof(one))
        fatal("eventfd: %s", strerror(errno));
}

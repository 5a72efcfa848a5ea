/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/test_device.h"

static void write_register(const struct test_device *device, unsigned offset, uint64_t value,
                           size_t width)
{
    if (pwrite(device->fd, &value, width, (off_t)(device->registers + offset)) != (ssize_t)width)
        fatal("a register cannot be written: %s", strerror(errno));
}

uint32_t read_register(const struct test_device *device, unsigned offset)
{
    uint32_t value;

    if (pread(device->fd, &value, sizeof(value), (off_t)(device->registers + offset)) !=
        sizeof(value))
        fatal("a register cannot be read: %s", strerror(errno));
    return value;
}

bool bind_device(int iommufd, int fd, int index, struct test_device *device)
{
    struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = iommufd};
    struct vfio_region_info region = {.argsz = sizeof(region)};
    struct iommufd_sim_fault_log_alloc log = {.size = sizeof(log)};
    uint16_t command = 6; /* memory space and bus master */

    if (ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &bind))
        return false;
    *device = (struct test_device){.fd = fd, .index = index, .id = bind.out_devid};
    if (ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, &region))
        return false;
    device->registers = region.offset;
    region.index = VFIO_PCI_CONFIG_REGION_INDEX;
    if (ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, &region) ||
        pwrite(fd, &command, 2, (off_t)region.offset + 4) != 2)
        return false;
    log.dev_id = device->id;
    if (ioctl(iommufd, IOMMUFD_SIM_FAULT_LOG_ALLOC, &log))
        return false;
    device->faults = (int)log.out_fd;
    return true;
}

static uint32_t start_dma(const struct test_device *device, uint64_t iova, uint32_t count,
                          uint32_t attributes, uint32_t command)
{
    write_register(device, TEST_DEVICE_ATTRIBUTES, attributes, 4);
    write_register(device, TEST_DEVICE_COUNT, count, 4);
    write_register(device, TEST_DEVICE_ADDRESS, iova, 8);
    write_register(device, TEST_DEVICE_COMMAND, command | RUN, 4);
    return dma_status(device);
}

uint32_t dma_read(const struct test_device *device, uint64_t iova, uint32_t count,
                  uint32_t attributes)
{
    return start_dma(device, iova, count, attributes, FROM_MEMORY);
}

uint32_t dma_write(const struct test_device *device, uint64_t iova, uint32_t count,
                   uint32_t attributes)
{
    return start_dma(device, iova, count, attributes, 0);
}

long attach_to(const struct test_device *device, uint32_t pt, uint32_t attributes)
{
    bool has_pasid = attributes & WITH_PASID;
    struct vfio_device_attach_iommufd_pt cmd = {.argsz = sizeof(cmd),
                                                .flags = has_pasid ? VFIO_DEVICE_ATTACH_PASID : 0,
                                                .pt_id = pt,
                                                .pasid = attributes & 0xfffff};

    return ioctl(device->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &cmd);
}

long detach(const struct test_device *device, uint32_t attributes)
{
    bool has_pasid = attributes & WITH_PASID;
    struct vfio_device_detach_iommufd_pt cmd = {.argsz = sizeof(cmd),
                                                .flags = has_pasid ? VFIO_DEVICE_DETACH_PASID : 0,
                                                .pasid = attributes & 0xfffff};

    return ioctl(device->fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &cmd);
}

uint32_t dma_status(const struct test_device *device)
{
    return read_register(device, TEST_DEVICE_STATUS);
}

bool read_fault(const struct test_device *device, struct iommufd_sim_fault *fault)
{
    return read(device->faults, fault, sizeof(*fault)) == sizeof(*fault);
}

unsigned drain_faults(const struct test_device *device)
{
    struct iommufd_sim_fault fault;
    unsigned count = 0;

    while (read_fault(device, &fault))
        count++;
    return count;
}

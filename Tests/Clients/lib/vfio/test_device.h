/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DMA engine of the test devices (1234:11e9), for clients that know what has to come out: a device is
 * opened, bound and driven, with a PASID or without, and its faults are read from a log.
 *
 * Nothing here prints anything.
 */
#ifndef TEST_DEVICE_H
#define TEST_DEVICE_H

#include "check.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/vfio.h>

#include "arguments.h"
#include "iommufd_sim.h"
#include "vfio/test_registers.h"

#define PAGE 4096UL

/** TEST_DEVICE_ATTRIBUTES beside a PASID: as an argument, NO_PASID is "none of all". */
#define NO_PASID 0u
#define WITH_PASID (1u << 31)
#define PRIVILEGED (1u << 30)
#define EXECUTE (1u << 29)
#define PASID(number) (WITH_PASID | (number))

struct test_device {
    int fd;
    int index;
    uint32_t id; /* as the iommufd knows it */
    uint64_t registers;
    int faults; /* its fault log */
};

/** Opens the iommufd, or exits. */
static inline int open_iommufd(void)
{
    const char *path = getenv("IOMMUFD");
    int fd = open(path ? path : "/dev/iommu", O_RDWR | O_CLOEXEC);

    if (fd < 0)
        give_up("%s: %s", path ? path : "/dev/iommu", strerror(errno));
    return fd;
}

/** Opens a device's node; -1 where there is none. */
static inline int open_node(int index)
{
    const char *prefix = getenv("VFIO_DEVICES"), *iommufd = getenv("IOMMUFD");
    char path[256];

    if (!prefix)
        prefix = iommufd && strstr(iommufd, "-sim") ? "/dev/vfio-sim/devices/vfio"
                                                    : "/dev/vfio/devices/vfio";
    snprintf(path, sizeof(path), "%s%d", prefix, index);
    return open(path, O_RDWR | O_CLOEXEC);
}

static inline void device_store(const struct test_device *device, unsigned offset, uint64_t value,
                                size_t width)
{
    if (pwrite(device->fd, &value, width, (off_t)(device->registers + offset)) != (ssize_t)width)
        give_up("a register cannot be written: %s", strerror(errno));
}

static inline uint32_t device_load(const struct test_device *device, unsigned offset)
{
    uint32_t value;

    if (pread(device->fd, &value, sizeof(value), (off_t)(device->registers + offset)) !=
        sizeof(value))
        give_up("a register cannot be read: %s", strerror(errno));
    return value;
}

/** Binds the device of a node that is open, and makes it master of its bus. */
static inline bool bind_device(int iommufd, int fd, int index, struct test_device *device)
{
    struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = iommufd};
    struct vfio_region_info region = {.argsz = sizeof(region)};
    struct iommufd_sim_fault_log_alloc log = {.size = sizeof(log)};
    uint16_t command = 6;

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

/** Starts a copy of `count` bytes. Gives its status: RUNNING while it waits for a page. */
static inline uint32_t start_copy(const struct test_device *device, uint64_t iova, uint32_t count,
                                  uint32_t attributes, uint32_t command)
{
    device_store(device, TEST_DEVICE_ATTRIBUTES, attributes, 4);
    device_store(device, TEST_DEVICE_COUNT, count, 4);
    device_store(device, TEST_DEVICE_ADDRESS, iova, 8);
    device_store(device, TEST_DEVICE_COMMAND, command | RUN, 4);
    return device_load(device, TEST_DEVICE_STATUS);
}

/** The device's buffer from memory, and to it. */
static inline uint32_t fetch(const struct test_device *device, uint64_t iova, uint32_t count,
                             uint32_t attributes)
{
    return start_copy(device, iova, count, attributes, FROM_MEMORY);
}

static inline uint32_t store(const struct test_device *device, uint64_t iova, uint32_t count,
                             uint32_t attributes)
{
    return start_copy(device, iova, count, attributes, 0);
}

static inline long attach(const struct test_device *device, uint32_t *pt, uint32_t attributes)
{
    bool has_pasid = attributes & WITH_PASID;
    struct vfio_device_attach_iommufd_pt cmd = {.argsz = sizeof(cmd),
                                                .flags = has_pasid ? VFIO_DEVICE_ATTACH_PASID : 0,
                                                .pt_id = *pt,
                                                .pasid = attributes & 0xfffff};
    long result = ioctl(device->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &cmd);

    if (!result)
        *pt = cmd.pt_id;
    return result;
}

static inline long attach_to(const struct test_device *device, uint32_t pt, uint32_t attributes)
{
    return attach(device, &pt, attributes);
}

static inline long detach(const struct test_device *device, uint32_t attributes)
{
    bool has_pasid = attributes & WITH_PASID;
    struct vfio_device_detach_iommufd_pt cmd = {.argsz = sizeof(cmd),
                                                .flags = has_pasid ? VFIO_DEVICE_DETACH_PASID : 0,
                                                .pasid = attributes & 0xfffff};

    return ioctl(device->fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &cmd);
}

/** The oldest fault of the device that was not taken yet; false: there is none. */
static inline bool take_fault(const struct test_device *device, struct iommufd_sim_fault *fault)
{
    return read(device->faults, fault, sizeof(*fault)) == sizeof(*fault);
}

/** How many faults there were. */
static inline unsigned drop_faults(const struct test_device *device)
{
    struct iommufd_sim_fault fault;
    unsigned count = 0;

    while (take_fault(device, &fault))
        count++;
    return count;
}

#endif /* TEST_DEVICE_H */

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DMA engine of the test devices (1234:11e9), for clients that check results: binding and
 * attaching a device, starting DMA with and without a PASID, and reading the device's faults from a
 * fault log. Nothing here prints.
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
#include "nodes.h"
#include "vfio/test_registers.h"

#define PAGE 4096UL

/** Values of TEST_DEVICE_ATTRIBUTES: PASID(number) with flags, or NO_PASID. */
#define NO_PASID 0u
#define WITH_PASID (1u << 31)
#define PRIVILEGED (1u << 30)
#define EXECUTE (1u << 29)
#define PASID(number) (WITH_PASID | (number))

struct test_device {
    int fd;
    int index;
    uint32_t id; /* the ID of the iommufd's device object */
    uint64_t registers; /* the offset of BAR 0 */
    int faults; /* the fault log of the device */
};

/**
 * Binds the device that is open as `fd` to the iommufd, makes it a bus master and opens a fault log
 * of it. Returns whether that succeeded.
 */
bool bind_device(int iommufd, int fd, int index, struct test_device *device);

/** Returns a 32-bit register of BAR 0. */
uint32_t read_register(const struct test_device *device, unsigned offset);

/* ---- attachment --------------------------------------------------------------------------- */

/** Attaches the device, or the PASID in `attributes`, to `pt`. Returns the ioctl's result. */
long attach_to(const struct test_device *device, uint32_t pt, uint32_t attributes);

/** Detaches the device, or the PASID in `attributes`. Returns the ioctl's result. */
long detach(const struct test_device *device, uint32_t attributes);

/* ---- DMA ---------------------------------------------------------------------------------- */

/** Lets the device copy `count` bytes at `iova` to its buffer. Returns dma_status(). */
uint32_t dma_read(const struct test_device *device, uint64_t iova, uint32_t count,
                  uint32_t attributes);

/** Lets the device copy `count` bytes of its buffer to `iova`. Returns dma_status(). */
uint32_t dma_write(const struct test_device *device, uint64_t iova, uint32_t count,
                   uint32_t attributes);

/** Returns TEST_DEVICE_STATUS: RUNNING while the device waits for the answer to a page request. */
uint32_t dma_status(const struct test_device *device);

/** Reads the oldest fault of the log. Returns false when the log is empty. */
bool read_fault(const struct test_device *device, struct iommufd_sim_fault *fault);

/** Empties the fault log. Returns how many faults were in it. */
unsigned drain_faults(const struct test_device *device);

#endif /* TEST_DEVICE_H */

/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "pins.h"

#include <err.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "calls.h"
#include "linux/iommufd.h"
#include "linux/vfio.h"

static void *memory;
/** The descriptor of the io_uring, or -1. */
static int ring = -1;
static uint32_t ioas;

static void make_ring(void)
{
    struct io_uring_params layout = {0};
    struct io_uring_rsrc_register table = {.nr = 2, .flags = IORING_RSRC_REGISTER_SPARSE};

    ring = (int)syscall(SYS_io_uring_setup, 8L, &layout);
    if (ring < 0
        || syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS2, &table, sizeof table) < 0)
        err(1, "io_uring");
}

static void attach_device(int iommufd)
{
    int device = open_node("/dev/vfio/devices/vfio0");
    struct vfio_device_bind_iommufd bind = {.argsz = sizeof bind, .iommufd = iommufd};
    struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
    struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof attach};

    if (ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) || ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc))
        err(1, "BIND_IOMMUFD");
    ioas = attach.pt_id = alloc.out_ioas_id;
    if (ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach))
        err(1, "ATTACH_IOMMUFD_PT");
}

void prepare_pins(int iommufd)
{
    memory = mmap(NULL, PINNED_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        err(1, "mmap");
    madvise(memory, PINNED_SIZE, MADV_NOHUGEPAGE);
    memset(memory, 1, PINNED_SIZE);
    if (iommufd < 0)
        make_ring();
    else
        attach_device(iommufd);
}

static void update_buffer(const void *base, size_t size)
{
    struct iovec vector = {(void *)base, size};
    struct io_uring_rsrc_update2 update = {.data = (uintptr_t)&vector, .nr = 1};

    if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS_UPDATE, &update, sizeof update)
        != 1)
        err(1, "io_uring_register");
}

void pin_and_unpin(int iommufd, size_t size)
{
    if (ring >= 0) {
        update_buffer(memory, size);
        update_buffer(NULL, 0);
        return;
    }
    struct iommu_ioas_map map = {.size = sizeof map,
                                 .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE
                                          | IOMMU_IOAS_MAP_WRITEABLE,
                                 .ioas_id = ioas,
                                 .user_va = (uintptr_t)memory,
                                 .length = size,
                                 .iova = 0x1000000};
    struct iommu_ioas_unmap unmap = {
        .size = sizeof unmap, .ioas_id = ioas, .iova = 0x1000000, .length = size};

    if (ioctl(iommufd, IOMMU_IOAS_MAP, &map) || ioctl(iommufd, IOMMU_IOAS_UNMAP, &unmap))
        err(1, "MAP, UNMAP");
}

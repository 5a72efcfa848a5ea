/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VFIO program in one file. It binds a PCI device to an iommufd, maps one buffer, lets the device
 * read and write the buffer, unmaps it, and checks that the device cannot access it any more. The
 * program is written for Linux's /dev/iommu and a VFIO device node. Only one optional command, for
 * reading faults, is the simulator's.
 *
 *   dma_client [--memfd] [--thread] [--fork] [DEVICE]
 *
 *   --memfd    the buffer is a memfd, mapped by IOAS_MAP_FILE
 *   --thread   a second thread maps the buffer and drives the device
 *   --fork     a child process maps the buffer and drives the device
 *   DEVICE     the VFIO device node; default: $VFIO_DEVICE, else /dev/vfio/devices/vfio0
 *
 * $IOMMUFD names another node than /dev/iommu. The device must be a "PCI Express ATS/PRI test
 * device" (1234:11e9), which copies 4096 bytes between a buffer of its own and an address.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/vfio.h>

#include "iommufd_sim.h"

enum {
    BUFFER = 4096,             /* bytes that the device copies at a time */
    CONFIG_ID = 0,             /* configuration space: vendor and device ID */
    CONFIG_COMMAND = 4,        /* ... command register */
    COMMAND_MEMORY = 1 << 1,   /* ... enables the BARs */
    COMMAND_MASTER = 1 << 2,   /* ... enables DMA */
    REGISTER_ADDRESS = 0,      /* BAR 0: 64 bits, the IOVA */
    REGISTER_COMMAND = 8,      /* BAR 0: 32 bits */
    RUN = 1 << 0,              /* starts a copy; the device clears it at the end */
    FROM_MEMORY = 1 << 1,      /* from memory to the device, else to memory */
};

static const uint64_t IOVA = 0xfef00000; /* just above the interrupt range of x86 */

struct client {
    int iommufd;
    int device;
    int fault_log; /* or -1 */
    uint32_t ioas;
    off_t config; /* offsets of the regions in the device file */
    off_t bar0;
    bool use_memfd;
    unsigned char *buffer;
    int memfd;
};

/* ---- results and registers -------------------------------------------------------------- */

static void die(const char *what)
{
    printf("%s: %s\n", what, strerror(errno));
    fflush(stdout);
    exit(1);
}

static void must(int result, const char *what)
{
    if (result < 0)
        die(what);
}

static int print(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    return fflush(stdout);
}

static void check(bool good, const char *what)
{
    print("   %s %s\n", good ? "yes:" : "NO: ", what);
    if (!good)
        exit(1);
}

static uint32_t read_register(const struct client *c, off_t region, off_t at, size_t size)
{
    uint32_t value = 0;

    if (pread(c->device, &value, size, region + at) != (ssize_t)size)
        die("pread of a register");
    return value;
}

static void write_register(const struct client *c, off_t region, off_t at, uint32_t value,
                           size_t size)
{
    if (pwrite(c->device, &value, size, region + at) != (ssize_t)size)
        die("pwrite of a register");
}

/* ---- the device and its address space --------------------------------------------------- */

static off_t region_offset(const struct client *c, uint32_t index)
{
    struct vfio_region_info info = {.argsz = sizeof(info), .index = index};

    must(ioctl(c->device, VFIO_DEVICE_GET_REGION_INFO, &info), "VFIO_DEVICE_GET_REGION_INFO");
    return (off_t)info.offset;
}

/** Opens both nodes and binds the device to the iommufd. */
static void open_and_bind(struct client *c, const char *device)
{
    const char *node = getenv("IOMMUFD") ? getenv("IOMMUFD") : "/dev/iommu";

    print("1. Open %s and %s.\n", node, device);
    must(c->iommufd = open(node, O_RDWR), node);
    must(c->device = open(device, O_RDWR), device);

    struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = c->iommufd};
    must(ioctl(c->device, VFIO_DEVICE_BIND_IOMMUFD, &bind), "VFIO_DEVICE_BIND_IOMMUFD");
    print("2. Bind the device to the iommufd: it is object %u there. Its DMA is blocked.\n",
        bind.out_devid);

    c->config = region_offset(c, VFIO_PCI_CONFIG_REGION_INDEX);
    c->bar0 = region_offset(c, VFIO_PCI_BAR0_REGION_INDEX);
    uint32_t id = read_register(c, c->config, CONFIG_ID, 4);
    print("   It is PCI device %04x:%04x.\n", id & 0xffff, id >> 16);
    if (id != 0x11e91234) {
        print("   This program drives 1234:11e9 only.\n");
        exit(1);
    }
}

/**
 * Allocates an empty IOAS and attaches the device, which creates the page table that the IOMMU
 * walks.
 */
static void attach(struct client *c)
{
    struct iommu_ioas_alloc ioas = {.size = sizeof(ioas)};
    must(ioctl(c->iommufd, IOMMU_IOAS_ALLOC, &ioas), "IOMMU_IOAS_ALLOC");
    c->ioas = ioas.out_ioas_id;

    struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof(attach), .pt_id = c->ioas};
    must(ioctl(c->device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach), "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
    print("3. Attach it to I/O address space %u, through page table %u: every DMA now faults.\n",
        c->ioas, attach.pt_id);

    uint16_t command = (uint16_t)read_register(c, c->config, CONFIG_COMMAND, 2);
    write_register(c, c->config, CONFIG_COMMAND, command | COMMAND_MEMORY | COMMAND_MASTER, 2);
}

/** Opens a log of DMA faults. Linux has no such log; the command then fails. */
static void open_fault_log(struct client *c)
{
    struct iommufd_sim_fault_log_alloc log = {.size = sizeof(log)};

    c->fault_log = -1;
    if (ioctl(c->iommufd, IOMMUFD_SIM_FAULT_LOG_ALLOC, &log) == 0)
        c->fault_log = (int)log.out_fd;
}

static void allocate_buffer(struct client *c)
{
    int flags = MAP_SHARED;

    c->memfd = -1;
    if (c->use_memfd) {
        must(c->memfd = memfd_create("dma buffer", MFD_CLOEXEC), "memfd_create");
        must(ftruncate(c->memfd, BUFFER), "ftruncate");
    } else {
        flags = MAP_PRIVATE | MAP_ANONYMOUS;
    }
    c->buffer = mmap(NULL, BUFFER, PROT_READ | PROT_WRITE, flags, c->memfd, 0);
    if (c->buffer == MAP_FAILED)
        die("mmap");
}

static void map_buffer(struct client *c)
{
    const uint32_t flags =
        IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
    struct iommu_ioas_map map = {.size = sizeof(map),
                                 .flags = flags,
                                 .ioas_id = c->ioas,
                                 .user_va = (uintptr_t)c->buffer,
                                 .length = BUFFER,
                                 .iova = IOVA};
    struct iommu_ioas_map_file map_file = {.size = sizeof(map_file),
                                           .flags = flags,
                                           .ioas_id = c->ioas,
                                           .fd = c->memfd,
                                           .length = BUFFER,
                                           .iova = IOVA};

    if (c->use_memfd)
        must(ioctl(c->iommufd, IOMMU_IOAS_MAP_FILE, &map_file), "IOMMU_IOAS_MAP_FILE");
    else
        must(ioctl(c->iommufd, IOMMU_IOAS_MAP, &map), "IOMMU_IOAS_MAP");
    print("4. Map %s of %d bytes at IOVA %#llx: the device may use that page.\n",
        c->use_memfd ? "a file" : "a buffer", BUFFER, (unsigned long long)IOVA);
}

static void unmap_buffer(struct client *c)
{
    struct iommu_ioas_unmap unmap = {
        .size = sizeof(unmap), .ioas_id = c->ioas, .iova = IOVA, .length = BUFFER};

    must(ioctl(c->iommufd, IOMMU_IOAS_UNMAP, &unmap), "IOMMU_IOAS_UNMAP");
    print("7. Unmap: %llu bytes are gone from the page table, and from every cache of it.\n",
        (unsigned long long)unmap.length);
}

/* ---- the device at work ----------------------------------------------------------------- */

/** Starts a copy and waits until it ends, with or without success. */
static void copy(const struct client *c, uint64_t iova, uint32_t direction)
{
    write_register(c, c->bar0, REGISTER_ADDRESS, (uint32_t)iova, 4);
    write_register(c, c->bar0, REGISTER_ADDRESS + 4, (uint32_t)(iova >> 32), 4);
    write_register(c, c->bar0, REGISTER_COMMAND, RUN | direction, 4);
    for (int tries = 0; read_register(c, c->bar0, REGISTER_COMMAND, 4) & RUN; tries++) {
        if (tries == 5000) {
            print("the device does not finish\n");
            exit(1);
        }
        usleep(1000);
    }
}

static void show_faults(const struct client *c)
{
    struct iommufd_sim_fault fault;

    if (c->fault_log < 0) {
        print("   (There is no fault log here.)\n");
        return;
    }
    while (read(c->fault_log, &fault, sizeof(fault)) == (ssize_t)sizeof(fault))
        print("   Fault: %02x:%02x.%x could not %s %#llx, reason %#x.\n", fault.requester >> 8,
            fault.requester >> 3 & 31, fault.requester & 7,
            fault.flags & IOMMUFD_SIM_FAULT_WRITE ? "write to" : "read from",
            (unsigned long long)fault.iova, fault.reason);
}

static bool all_bytes_are(const struct client *c, int value)
{
    for (int i = 0; i != BUFFER; i++)
        if (c->buffer[i] != value)
            return false;
    return true;
}

static bool is_pattern(const struct client *c)
{
    for (int i = 0; i != BUFFER; i++)
        if (c->buffer[i] != (unsigned char)(i * 7 + 1))
            return false;
    return true;
}

static void work(struct client *c)
{
    allocate_buffer(c);
    map_buffer(c);

    for (int i = 0; i != BUFFER; i++)
        c->buffer[i] = (unsigned char)(i * 7 + 1);
    print("5. The buffer gets a pattern, and the device reads it.\n");
    copy(c, IOVA, FROM_MEMORY);
    memset(c->buffer, 0, BUFFER);
    print("6. The buffer is cleared, and the device writes back what it has.\n");
    copy(c, IOVA, 0);
    check(is_pattern(c), "the pattern is in the buffer again");

    unmap_buffer(c);
    memset(c->buffer, 0x5a, BUFFER);
    open_fault_log(c);
    print("8. The device is told to write there once more.\n");
    copy(c, IOVA, 0);
    check(all_bytes_are(c, 0x5a), "not a byte of the buffer has changed");
    show_faults(c);
}

static void *work_in_thread(void *argument)
{
    work(argument);
    return NULL;
}

static void work_in_child(struct client *c)
{
    int status;
    pid_t child = fork();

    must(child, "fork");
    if (child == 0) {
        work(c);
        exit(0);
    }
    must(waitpid(child, &status, 0), "waitpid");
    if (status != 0)
        exit(1);
}

static void detach(struct client *c)
{
    struct vfio_device_detach_iommufd_pt detach = {.argsz = sizeof(detach)};
    struct iommu_destroy destroy = {.size = sizeof(destroy), .id = c->ioas};

    must(ioctl(c->device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach), "VFIO_DEVICE_DETACH_IOMMUFD_PT");
    must(ioctl(c->iommufd, IOMMU_DESTROY, &destroy), "IOMMU_DESTROY");
    close(c->device);
    close(c->iommufd);
    print("9. Detach, destroy the address space, close. Nothing is left behind.\n");
}

int main(int argc, char **argv)
{
    const char *device = getenv("VFIO_DEVICE") ? getenv("VFIO_DEVICE") : "/dev/vfio/devices/vfio0";
    bool in_thread = false, in_child = false;
    struct client client = {0};
    pthread_t thread;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--memfd"))
            client.use_memfd = true;
        else if (!strcmp(argv[i], "--thread"))
            in_thread = true;
        else if (!strcmp(argv[i], "--fork"))
            in_child = true;
        else
            device = argv[i];
    }
    open_and_bind(&client, device);
    attach(&client);
    if (in_child) {
        work_in_child(&client);
    } else if (in_thread) {
        if (pthread_create(&thread, NULL, work_in_thread, &client))
            die("pthread_create");
        pthread_join(thread, NULL);
    } else {
        work(&client);
    }
    detach(&client);
    return 0;
}

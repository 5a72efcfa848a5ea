/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The init of a virtual machine, and its only program. The machine has a test device that QEMU
 * passes through, and an IOMMU that QEMU emulates on top of the simulator. The program uses VFIO
 * groups and a container, which Debian's kernel has, and does not depend on being in a virtual
 * machine.
 *
 *   guest ROUNDS     the kernel passes the arguments after "--" on its command line
 *
 * /modules holds the kernel modules that the program loads, in the order of their names.
 */
#include "random.h"
#include "vfio/test_device.h"

#include <dirent.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { BUFFERS = 8, PLACES = 16 };

static int container;
static struct test_device device = {.fd = -1};
/** Memory for DMA, and a model of its contents. */
static unsigned char (*buffers)[PAGE], model[BUFFERS][PAGE];
/** A model of the device's buffer. */
static unsigned char held[PAGE];
/** The buffer that is mapped at a place, or -1. */
static int mapped[PLACES];

static uint64_t address_of(unsigned place)
{
    return 0x10000000 + (uint64_t)place * 0x100000 + place % 3 * PAGE;
}

/* ---- the machine -------------------------------------------------------------------------- */

static void load_modules(void)
{
    struct dirent **entries;
    int count = scandir("/modules", &entries, NULL, alphasort);

    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        const char *parameters = strstr(name, "vfio-pci.ko")           ? "ids=1234:11e9"
                                 : strstr(name, "vfio_iommu_type1.ko") ? "allow_unsafe_interrupts=1"
                                                                       : "";
        char path[512];
        int fd;

        if (name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "/modules/%s", name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || syscall(SYS_finit_module, fd, parameters, 0))
            fatal("%s: %s", path, strerror(errno));
        close(fd);
    }
}

/** Finds the device that is passed through: its name on the bus and the node of its group. */
static void find_device(char name[static 256], char group[static 512])
{
    DIR *devices = opendir("/sys/bus/pci/drivers/vfio-pci");
    struct dirent *entry;
    char link[512], target[256];
    ssize_t length;

    if (!devices)
        fatal("no vfio-pci");
    while ((entry = readdir(devices)) && !strchr(entry->d_name, ':'))
        continue;
    if (!entry)
        fatal("vfio-pci has no device");
    snprintf(name, 256, "%.255s", entry->d_name);
    snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group", name);
    length = readlink(link, target, sizeof(target) - 1);
    if (length < 0)
        fatal("%s has no IOMMU", name);
    target[length] = 0;
    snprintf(group, 512, "/dev/vfio/%s", strrchr(target, '/') + 1);
    closedir(devices);
}

static void open_device(void)
{
    struct vfio_region_info region = {.argsz = sizeof(region)};
    char name[256], path[512];
    uint16_t command = 6;
    int group;

    find_device(name, path);
    container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
    group = open(path, O_RDWR | O_CLOEXEC);
    if (container < 0 || group < 0)
        fatal("%s: %s", path, strerror(errno));
    if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) ||
        ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
        fatal("no container: %s", strerror(errno));
    device.fd = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name);
    if (device.fd < 0 || ioctl(device.fd, VFIO_DEVICE_GET_REGION_INFO, &region))
        fatal("no device: %s", strerror(errno));
    device.registers = region.offset;
    region.index = VFIO_PCI_CONFIG_REGION_INDEX;
    if (ioctl(device.fd, VFIO_DEVICE_GET_REGION_INFO, &region) ||
        pwrite(device.fd, &command, 2, (off_t)region.offset + 4) != 2)
        fatal("no configuration space: %s", strerror(errno));
}

/* ---- DMA ---------------------------------------------------------------------------------- */

static bool map(unsigned place, const void *memory, uint64_t size, uint32_t flags)
{
    struct vfio_iommu_type1_dma_map cmd = {.argsz = sizeof(cmd),
                                           .flags = flags,
                                           .vaddr = (uintptr_t)memory,
                                           .iova = address_of(place),
                                           .size = size};

    return !ioctl(container, VFIO_IOMMU_MAP_DMA, &cmd);
}

static bool unmap(unsigned place, uint64_t size)
{
    struct vfio_iommu_type1_dma_unmap cmd = {
        .argsz = sizeof(cmd), .iova = address_of(place), .size = size};

    return !ioctl(container, VFIO_IOMMU_UNMAP_DMA, &cmd) && cmd.size == size;
}

static bool fetched(uint64_t iova)
{
    return dma_read(&device, iova, PAGE, NO_PASID) == COMPLETED;
}

static bool stored(uint64_t iova)
{
    return dma_write(&device, iova, PAGE, NO_PASID) == COMPLETED;
}

/** Returns whether DMA was refused: by a fault, or, with ATS, by a translation completion. */
static bool refused(uint32_t status)
{
    return status == FAULTED || status == DENIED;
}

static bool fetch_refused(uint64_t iova)
{
    return refused(dma_read(&device, iova, PAGE, NO_PASID));
}

static bool store_refused(uint64_t iova)
{
    return refused(dma_write(&device, iova, PAGE, NO_PASID));
}

#define BOTH_WAYS (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)

static void test_one_page(void)
{
    memset(buffers[0], 0x11, PAGE);
    memset(buffers[1], 0x22, PAGE);
    check_number(fetch_refused(address_of(0)), true, "nothing is mapped");
    check_number(map(0, buffers[0], PAGE, BOTH_WAYS), true, "mapped");
    check_number(fetched(address_of(0)), true, "the device reads it");
    memset(buffers[0], 0, PAGE);
    check_number(stored(address_of(0)), true, "and writes it back");
    check_number(buffers[0][PAGE - 1], 0x11, "to the last byte");

    check_number(unmap(0, PAGE), true, "unmapped");
    memset(buffers[0], 0, PAGE);
    check_number(store_refused(address_of(0)), true, "is out of reach");
    check_number(buffers[0][0], 0, "and unchanged");

    check_number(map(0, buffers[1], PAGE, BOTH_WAYS), true, "another page at that address");
    check_number(stored(address_of(0)), true, "is what it reaches");
    check_number(buffers[1][0], 0x11, "with what it had");
    check_number(buffers[0][0], 0, "and not the page before");
    check_number(unmap(0, PAGE), true, "gone");

    check_number(map(0, buffers[1], PAGE, VFIO_DMA_MAP_FLAG_READ), true, "for reading");
    check_number(fetched(address_of(0)), true, "is read");
    memset(buffers[1], 0x33, PAGE);
    check_number(store_refused(address_of(0)), true, "is not written");
    check_number(buffers[1][0], 0x33, "not one byte");
    check_number(unmap(0, PAGE), true, "gone again");
}

/** A mapping that is large enough for large pages, which the guest's kernel uses where possible. */
static void test_large(void)
{
    const size_t size = 8 << 20;
    unsigned char *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned bad = 0;

    check_number(map(0, memory, size, BOTH_WAYS), true, "8 MiB");
    for (size_t offset = 0; offset < size; offset += size / 64) {
        memset(memory + offset, (int)(offset >> 17) + 1, PAGE);
        bad += !fetched(address_of(0) + offset);
        bad += !stored(address_of(0) + (size - PAGE - offset));
        bad += memcmp(memory + offset, memory + size - PAGE - offset, PAGE) != 0;
    }
    check_number(bad, 0, "copied across from 64 places");
    check_number(unmap(0, size), true, "all of it");
    check_number(fetch_refused(address_of(0) + size / 2), true, "is gone");
    munmap(memory, size);
}

/** Maps, unmaps or copies. Returns the number of unexpected results. */
static unsigned random_step(void)
{
    unsigned place = (unsigned)below(PLACES), bad = 0;
    int buffer = (int)below(BUFFERS);

    if (chance(40)) {
        if (mapped[place] >= 0) {
            mapped[place] = -1;
            return !unmap(place, PAGE);
        }
        mapped[place] = buffer;
        return !map(place, buffers[buffer], PAGE, BOTH_WAYS);
    }
    if (chance(30)) {
        memset(buffers[buffer], (int)below(256), PAGE);
        memcpy(model[buffer], buffers[buffer], PAGE);
    }
    if (chance(50) && mapped[place] >= 0) {
        bad += !fetched(address_of(place));
        memcpy(held, model[mapped[place]], PAGE);
    } else if (mapped[place] >= 0) {
        bad += !stored(address_of(place));
        memcpy(model[mapped[place]], held, PAGE);
    } else {
        bad += !fetch_refused(address_of(place)) + !store_refused(address_of(place));
    }
    return bad + (memcmp(buffers, model, sizeof(model)) != 0);
}

static void test_randomly(unsigned rounds)
{
    unsigned bad = 0;

    memset(buffers, 0, sizeof(model));
    memset(mapped, -1, sizeof(mapped));
    /* The first read gives the device's buffer known contents. */
    mapped[0] = 0;
    bad += !map(0, buffers[0], PAGE, BOTH_WAYS);
    bad += !fetched(address_of(0));
    for (unsigned round = 0; round < rounds; round++)
        bad += random_step();
    check_number(bad, 0, "%u times: a map, an unmap or a copy", rounds);
}

int main(int argc, char **argv)
{
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    mount("sys", "/sys", "sysfs", 0, NULL);
    load_modules();
    open_device();
    buffers = mmap(NULL, sizeof(model), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    test_one_page();
    test_large();
    test_randomly(argc > 1 ? (unsigned)atoi(argv[1]) : 100);
    printf("end of the guest\n");
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
}

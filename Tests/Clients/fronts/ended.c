/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DMA from private memory of a process that has ended. A kernel keeps the pinned pages; the front
 * ends keep the bytes that were in them last. A child maps memory for a device that its parent has
 * attached, then exits or executes another program, and the parent lets the device read the memory.
 *
 *   ended [killed]     with an argument a child is killed, too; status 0 when all bytes are right
 */
#include <fcntl.h>
#include <signal.h>
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

enum {
    LENGTH = 4096,
    CHILD_IOVA = 0x100000,
    PARENT_IOVA = 0x200000,
    DMA_READ = 3,
    DMA_WRITE = 1,
};

static void need(int ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    exit(1);
}

static uint64_t region(int device, unsigned index)
{
    struct vfio_region_info info = {.argsz = sizeof(info), .index = index};

    need(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) == 0, "VFIO_DEVICE_GET_REGION_INFO");
    return info.offset;
}

static void *map_memory(int iommufd, unsigned ioas, uint64_t iova, int fill)
{
    void *memory = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
        .ioas_id = ioas,
        .user_va = (uintptr_t)memory,
        .length = LENGTH,
        .iova = iova,
    };

    need(memory != MAP_FAILED, "mmap");
    memset(memory, fill, LENGTH);
    need(ioctl(iommufd, IOMMU_IOAS_MAP, &map) == 0, "IOMMU_IOAS_MAP");
    return memory;
}

static void run_dma(int device, uint64_t registers, uint64_t iova, uint32_t command)
{
    need(pwrite(device, &iova, 8, registers) == 8, "address register");
    need(pwrite(device, &command, 4, registers + 8) == 4, "command register");
}

enum end { BY_EXIT, BY_EXEC, BY_SIGNAL, ENDS };
static const char *const names[ENDS] = {"exit", "exec", "kill"};

/** Forks a child that maps memory filled with `fill`, changes the first byte and ends. */
static void run_child(int iommufd, unsigned ioas, int fill, enum end end)
{
    pid_t child = fork();
    int status;

    need(child >= 0, "fork");
    if (child == 0) {
        char *memory = map_memory(iommufd, ioas, CHILD_IOVA, fill);

        memory[0] = fill + 1;
        if (end == BY_EXEC)
            execl("/bin/true", "true", (char *)NULL);
        if (end == BY_SIGNAL)
            raise(SIGKILL);
        _exit(0);
    }
    need(waitpid(child, &status, 0) == child && status == (end == BY_SIGNAL ? SIGKILL : 0),
         "child");
}

static int open_node(const char *variable, const char *otherwise)
{
    const char *path = getenv(variable);

    return open(path ? path : otherwise, O_RDWR);
}

int main(int argc, char **argv)
{
    int iommufd = open_node("IOMMUFD", "/dev/iommu");
    int device = open_node("VFIO_DEVICE", "/dev/vfio/devices/vfio0");
    struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = iommufd};
    struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
    struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof(attach)};
    uint16_t command = 6; /* memory space and bus master */
    uint64_t registers;
    int failed = 0;

    (void)argv;
    need(iommufd >= 0 && device >= 0, "open");
    need(ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) == 0, "VFIO_DEVICE_BIND_IOMMUFD");
    need(ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc) == 0, "IOMMU_IOAS_ALLOC");
    attach.pt_id = alloc.out_ioas_id;
    need(ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) == 0, "ATTACH");
    need(pwrite(device, &command, 2, region(device, VFIO_PCI_CONFIG_REGION_INDEX) + 4) == 2,
         "command register");
    registers = region(device, VFIO_PCI_BAR0_REGION_INDEX);

    for (enum end end = BY_EXIT; end < (argc > 1 ? ENDS : BY_SIGNAL); end++) {
        int fill = 0x5a + end;
        struct iommu_ioas_unmap all = {
            .size = sizeof(all), .ioas_id = alloc.out_ioas_id, .length = UINT64_MAX};
        char *memory = map_memory(iommufd, alloc.out_ioas_id, PARENT_IOVA, 0);

        run_child(iommufd, alloc.out_ioas_id, fill, end);
        run_dma(device, registers, CHILD_IOVA, DMA_READ);
        run_dma(device, registers, PARENT_IOVA, DMA_WRITE);
        if (memory[0] != fill + 1 || memory[1] != fill || memory[LENGTH - 1] != fill) {
            printf("%s: %#x %#x ... %#x\n", names[end], memory[0], memory[1],
                   memory[LENGTH - 1]);
            failed = 1;
        }
        need(ioctl(iommufd, IOMMU_IOAS_UNMAP, &all) == 0, "IOMMU_IOAS_UNMAP");
    }
    return failed;
}

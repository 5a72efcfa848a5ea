/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DMA buffers: their file descriptors, mapping them in part and in full, accesses and devices that
 * use them, and the mappings of a buffer whose exporter revokes it.
 *
 * DMABUF_GET of Linux 7.3 answers 0 instead of the file descriptor, which is the lowest free
 * number. The simulator answers the file descriptor. Neither number is printed.
 */
#include "mock/mock.h"

#include <linux/vfio.h>

enum { LENGTH = 4 * PAGE };

/** Returns the file descriptor of a new DMA buffer, or -1. */
static int get_buffer(const char *name, uint32_t length, uint32_t flags)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_DMABUF_GET, 0);
    int lowest = dup(iommufd);
    long result;

    close(lowest);
    cmd.dmabuf_get.length = length;
    cmd.dmabuf_get.open_flags = flags;
    printf("TEST_DMABUF_GET length=%#x open_flags=%#x", length, flags);
    fflush(stdout);
    result = ioctl(iommufd, IOMMU_TEST_CMD, &cmd);
    if (result < 0) {
        print_result(result);
        printf("\n");
        return -1;
    }
    printf(" -> an fd\n");
    return name_fd(name, result ? (int)result : lowest);
}

static void revoke_buffer(int fd, uint32_t revoked)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_DMABUF_REVOKE, 0);
    long result;

    cmd.dmabuf_revoke.dmabuf_fd = fd;
    cmd.dmabuf_revoke.revoked = revoked;
    result = ioctl(iommufd, IOMMU_TEST_CMD, &cmd);
    printf("TEST_DMABUF_REVOKE ");
    print_fd(fd);
    printf(" revoked=%u", revoked);
    print_result(result);
    printf("\n");
}

static void seek(int fd, long offset, int whence)
{
    printf("lseek %ld from %d", offset, whence);
    print_result(lseek(fd, offset, whence));
    printf("\n");
}

static void test_descriptors(void)
{
    static const uint32_t lengths[] = {0, 1, PAGE, PAGE + 1, 1 << 21, (1 << 21) + 1, UINT32_MAX};
    static const uint32_t flags[] = {0,      O_WRONLY,           O_RDWR,    O_RDWR | O_CLOEXEC,
                                     O_CREAT, O_RDWR | O_NONBLOCK, O_APPEND, O_PATH};
    char byte = 0;
    int fd;

    section("lengths");
    for (size_t i = 0; i != COUNT(lengths); i++) {
        fd = get_buffer("buffer", lengths[i], O_RDWR);
        if (fd < 0)
            continue;
        seek(fd, 0, SEEK_END);
        close(fd);
        remove_last_fd_name();
    }
    section("flags");
    for (size_t i = 0; i != COUNT(flags); i++) {
        fd = get_buffer("buffer", PAGE, flags[i]);
        printf("flags %#x %#x\n", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
        close(fd);
        remove_last_fd_name();
    }
    section("file operations");
    fd = get_buffer("buffer", LENGTH, O_RDWR);
    seek(fd, 0, SEEK_SET);
    seek(fd, 1, SEEK_SET);
    seek(fd, 0, SEEK_CUR);
    seek(fd, 0, SEEK_END);
    seek(fd, -1, SEEK_END);
    printf("read");
    print_result(read(fd, &byte, 1));
    printf("\nwrite");
    print_result(write(fd, &byte, 1));
    printf("\nioctl");
    print_result(ioctl(fd, IOMMU_IOAS_ALLOC, &byte));
    printf("\n");
    close(fd);
    remove_last_fd_name();
    section("what REVOKE refuses");
    revoke_buffer(-1, 1);
    revoke_buffer(iommufd, 1);
}

static void test_mappings(void)
{
    struct mock_device device;
    uint32_t ioas = ioas_alloc(), other = ioas_alloc();
    int fd = get_buffer("buffer", LENGTH, O_RDWR | O_CLOEXEC), access;
    unsigned char bytes[16] = {1};

    section("a part of it, and more than it has");
    map_file(ioas, fd, 0, LENGTH, FIXED | R | W, MOCK_START);
    map_file(ioas, fd, PAGE, LENGTH - PAGE, FIXED | R, MOCK_START + 0x10000);
    map_file(ioas, fd, 0, LENGTH + 1, FIXED | R | W, MOCK_START + 0x20000);
    map_file(ioas, fd, 1, LENGTH, FIXED | R | W, MOCK_START + 0x20000);
    map_file(ioas, fd, LENGTH, 1, FIXED | R | W, MOCK_START + 0x20000);
    map_file(ioas, fd, LENGTH - 1, 1, FIXED | R | W, MOCK_START + 0x20000);
    map_file(ioas, fd, UINT64_MAX - 1, 1, FIXED | R | W, MOCK_START + 0x30000);
    unmap(ioas, MOCK_START + 0x20000, 1);
    copy(other, ioas, MOCK_START + PAGE, 2 * PAGE, FIXED | R | W, MOCK_START);
    section("an access does not reach it");
    name_region("bytes", bytes, sizeof(bytes));
    access = create_access("access", ioas, MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES);
    access_pages(access, MOCK_START, PAGE, NULL, 0);
    access_rw(access, MOCK_START, 16, bytes, 0);
    access_rw(access, MOCK_START, 16, bytes, MOCK_ACCESS_RW_WRITE);
    close(access);
    section("with a device");
    mock_domain(ioas, &device);
    map_file(ioas, fd, 2 * PAGE, PAGE, FIXED | R | W, MOCK_START + 0x40000);
    check_map(device.hwpt, MOCK_START, 0x800, NULL);
    section("taken back");
    revoke_buffer(fd, 1);
    map_file(ioas, fd, 0, PAGE, FIXED | R | W, MOCK_START + 0x50000);
    copy(other, ioas, MOCK_START, PAGE, FIXED | R | W, MOCK_START + 0x50000);
    mock_domain(other, &device);
    unmap(ioas, MOCK_START + 0x40000, PAGE);
    section("given again");
    revoke_buffer(fd, 0);
    map_file(ioas, fd, 0, PAGE, FIXED | R | W, MOCK_START + 0x50000);
    unmap(ioas, 0, UINT64_MAX);
    section("type1 cannot cut it");
    map_file(ioas, fd, 0, LENGTH, FIXED | R | W, MOCK_START);
    vfio_ioas(IOMMU_VFIO_IOAS_SET, ioas);
    unmap(ioas, MOCK_START, PAGE);
}

/** What type1 refuses: SET_IOMMU with a page table, and UNMAP_DMA of a part of a buffer. */
static void test_type1(void)
{
    struct vfio_iommu_type1_dma_unmap cut = {
        .argsz = sizeof(cut), .iova = MOCK_START, .size = PAGE};
    struct mock_device device;
    uint32_t ioas;
    int fd;

    reopen("type1 and a buffer");
    ioas = ioas_alloc();
    vfio_ioas(IOMMU_VFIO_IOAS_SET, ioas);
    run_raw(VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU, "SET_IOMMU type1");
    fd = get_buffer("buffer", LENGTH, O_RDWR | O_CLOEXEC);
    map_file(ioas, fd, 0, LENGTH, FIXED | R | W, MOCK_START);
    run_raw(VFIO_IOMMU_UNMAP_DMA, (uintptr_t)&cut, "UNMAP_DMA of the first page");
    printf("size %#llx\n", (unsigned long long)cut.size);
    reopen("type1 and a device");
    ioas = ioas_alloc();
    mock_domain(ioas, &device);
    vfio_ioas(IOMMU_VFIO_IOAS_SET, ioas);
    run_raw(VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU, "SET_IOMMU type1, nothing mapped");
    reopen("type1 and a device with an area");
    ioas = ioas_alloc();
    mock_domain(ioas, &device);
    make_buffer(1);
    memset(buffer, 1, PAGE);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R | W, MOCK_START);
    vfio_ioas(IOMMU_VFIO_IOAS_SET, ioas);
    run_raw(VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU, "SET_IOMMU type1");
    run_raw(VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU, "SET_IOMMU type1v2");
}

/** Attaches a device to a file mapping of a process that has exited, with accounting by process. */
static void test_exited_process(void)
{
    struct mock_device device;
    uint32_t ioas;
    int memory = memfd_create("memory", 0), status;
    pid_t child;

    reopen("the process that pays is gone");
    if (ftruncate(memory, PAGE))
        exit(2);
    option(IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_OP_SET, 0, 1);
    if (!geteuid() && (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)))
        exit(2);
    ioas = ioas_alloc();
    name_fd("memory", memory);
    fflush(stdout);
    child = fork();
    if (child == 0) {
        map_file(ioas, memory, 0, PAGE, FIXED | R | W, MOCK_START);
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, &status, 0);
    mock_domain(ioas, &device);
    unmap(ioas, 0, UINT64_MAX);
    mock_domain(ioas, &device);
}

int main(void)
{
    part = "mock";
    begin("DMA buffers");
    test_descriptors();
    test_mappings();
    test_type1();
    test_exited_process();
    return 0;
}

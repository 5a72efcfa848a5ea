/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases that random calls have found but seldom produce: lists that are longer than the kernel
 * allocates, the last page of the address space, mappings without permissions, a queue that a
 * detach empties, I/O vectors with empty elements.
 */
#include "mock/mock.h"

#include <sys/syscall.h>
#include <sys/uio.h>

#include <linux/vfio.h>

static struct mock_device device;
static uint32_t ioas, parent, viommu;

/** Makes an IOAS with mapped memory, a device that has PASIDs, and a vIOMMU. */
static void make_objects(void)
{
    ioas = ioas_alloc();
    map(ioas, (uintptr_t)buffer, 4 * PAGE, FIXED | R | W, MOCK_START);
    mock_domain_flags(ioas, MOCK_FLAGS_DEVICE_PASID, &device);
    parent = hwpt_alloc(device.idev, ioas, NEST | PASID);
    viommu = viommu_alloc(device.idev, parent, IOMMU_VIOMMU_TYPE_SELFTEST, NULL, 0);
}

static void test_hardware_queues(void)
{
    uint32_t type = IOMMU_HW_QUEUE_TYPE_SELFTEST, first, second;

    section("hardware queues: lengths");
    hw_queue_alloc(viommu, type, 0, 0, UINT64_MAX);
    hw_queue_alloc(viommu, type, 0, 0, UINT64_MAX - 4094);
    hw_queue_alloc(viommu, type, 0, 0, UINT64_MAX - 4095);
    hw_queue_alloc(viommu, type, 0, 1, UINT64_MAX);
    hw_queue_alloc(viommu, type, 0, 4095, UINT64_MAX - 4094);
    hw_queue_alloc(viommu, type, 0, 4095, UINT64_MAX - 8190);
    hw_queue_alloc(viommu, type, 0, 0, 1UL << 40);
    section("hardware queues: the second one's index is never free again");
    first = hw_queue_alloc(viommu, type, 0, MOCK_START, 0x800);
    second = hw_queue_alloc(viommu, type, 1, MOCK_START + PAGE, 0x800);
    hw_queue_alloc(viommu, type, 1, MOCK_START + PAGE, 0x800);
    destroy(first);
    destroy(second);
    hw_queue_alloc(viommu, type, 1, MOCK_START + PAGE, 0x800);
    second = hw_queue_alloc(viommu, type, 0, MOCK_START + PAGE, 0x800);
    unmap(ioas, 0, UINT64_MAX);
    destroy(first);
    hw_queue_alloc(viommu, type, 0, MOCK_START + PAGE, 0x800);
    destroy(second);
    destroy(viommu);
}

static void test_long_lists(void)
{
    struct iommu_hwpt_invalidate cmd =
        invalidate_arguments(viommu, IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST, buffer, 12, 0);
    /* The kernel allocates at most 4 MiB for the entries, which have 12 bytes. */
    static const uint32_t counts[] = {349525, 349526, 1 << 19, (1 << 19) + 1};

    section("invalidation: long lists");
    for (size_t i = 0; i != COUNT(counts); i++) {
        cmd.entry_num = counts[i];
        run(&HWPT_INVALIDATE, &cmd);
        cmd.data_type++;
        cmd.entry_num = counts[i];
        run(&HWPT_INVALIDATE, &cmd);
        cmd.data_type--;
    }
}

static void test_last_page(void)
{
    int access = create_access("access", ioas, MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES);
    const unsigned char *last = (void *)(UINTPTR_MAX - 4095);

    section("the last page of all addresses, and the one before");
    access_pages(access, MOCK_START, PAGE, last, 0);
    access_pages(access, MOCK_START, PAGE, last + 4095, 0);
    access_pages(access, MOCK_START, PAGE, last - PAGE, 0);
    access_pages(access, MOCK_START, 2 * PAGE, last, 0);
    access_pages(access, MOCK_START, 2 * PAGE, last - PAGE, 0);
    check_map(device.hwpt, MOCK_START, 0x800, last);
    check_map(device.hwpt, MOCK_START, PAGE, last);
    check_map(device.hwpt, MOCK_START, 0x800, last - PAGE);
    check_refs(last, PAGE, 0);
    check_refs(last - PAGE, PAGE, 0);
    map(ioas, UINT64_MAX - 4095, 0x800, FIXED | R | W, MOCK_START + 0x10000);
    map(ioas, UINT64_MAX - 8191, 0x800, FIXED | R | W, MOCK_START + 0x10000);
    close(access);
    section("ranges that end where there is nothing more");
    add_reserved(ioas, 0, 0);
    add_reserved(ioas, UINT64_MAX, 2);
    add_reserved(ioas, UINT64_MAX, 1);
    get_dirty_bitmap(parent, 0, UINT64_MAX - 4095, 8192, PAGE, buffer);
    get_dirty_bitmap(parent, 0, UINT64_MAX - 4095, 4096, PAGE, buffer);
}

/** Only type1's MAP_DMA can create a mapping without read and write permission. */
static void test_mapping_without_permission(void)
{
    struct vfio_iommu_type1_dma_map cmd = {.argsz = sizeof(cmd),
                                           .vaddr = (uintptr_t)buffer,
                                           .iova = MOCK_START + 0x20000,
                                           .size = PAGE};
    struct mock_device late;
    uint32_t other = ioas_alloc();

    section("a mapping that permits nothing");
    vfio_ioas(IOMMU_VFIO_IOAS_SET, ioas);
    run_raw(VFIO_IOMMU_MAP_DMA, (uintptr_t)&cmd, "MAP_DMA with a device");
    vfio_ioas(IOMMU_VFIO_IOAS_SET, other);
    run_raw(VFIO_IOMMU_MAP_DMA, (uintptr_t)&cmd, "MAP_DMA without");
    mock_domain(other, &late);
    hwpt_alloc(device.idev, other, 0);
    unmap(other, 0, UINT64_MAX);
    mock_domain(other, &late);
    destroy(late.stdev);
}

/** Replacing an attached HWPT discards the page requests that came through it. */
static void test_emptied_queue(void)
{
    uint32_t queue, table;
    int fd = -1;

    section("a queue that a detach empties");
    queue = fault_queue_alloc("queue", &fd);
    table = hwpt_alloc_with(device.idev, ioas, FAULTS, 0, NULL, 0, queue);
    mock_replace(device.stdev, table);
    poll_queue(fd);
    trigger_iopf(device.idev, 0, 0x1000);
    trigger_iopf(device.idev, 0, 0x2000);
    poll_queue(fd);
    mock_replace(device.stdev, ioas);
    poll_queue(fd);
    section("addresses that are no user's, at an empty queue");
    read_words(fd, (void *)0xffff888000001000, 40);
    read_words(fd, (void *)0x8000000000000000, 0);
    read_words(fd, (void *)0x8000000000000000, 7);
    write_words(fd, (void *)0xffff888000001000, 0);
    close(fd);
}

static void read_vector(int fd, unsigned count, size_t first, size_t second, size_t third)
{
    struct iovec pieces[] = {
        {buffer, first}, {buffer + PAGE, second}, {buffer + 2 * PAGE, third}};

    printf("readv ");
    print_fd(fd);
    printf(" %zu %zu %zu of %u", first, second, third, count);
    print_result(readv(fd, pieces, (int)count));
    printf("\n");
}

/**
 * The kernel reads a queue one element at a time, and skips an empty element unless it is the
 * first.
 */
static void test_vectors(void)
{
    struct iovec piece = {buffer, 8};
    int fd = -1;

    section("vectors, with pieces of nothing");
    viommu = viommu_alloc(device.idev, parent, IOMMU_VIOMMU_TYPE_SELFTEST, NULL, 0);
    vdevice_alloc(viommu, device.idev, 0x99);
    mock_replace(device.stdev, nested_alloc(device.idev, viommu, 0, 0));
    veventq_alloc("events", viommu, IOMMU_VEVENTQ_TYPE_SELFTEST, 8, &fd);
    for (unsigned i = 0; i != 5; i++)
        trigger_vevent(device.idev);
    read_vector(fd, 0, 0, 0, 0);
    read_vector(fd, 1, 0, 0, 0);
    read_vector(fd, 3, 0, 0, 0);
    read_vector(fd, 2, 0, 64, 0);
    read_vector(fd, 3, 12, 0, 12);
    read_vector(fd, 3, 12, 4, 12);
    read_vector(fd, 1, 7, 0, 0);
    read_vector(fd, 3, 64, 0, 64);
    section("vectors that cannot be read, where there is no write");
    printf("writev");
    print_result(writev(fd, &piece, 1));
    printf("\nwritev at 8");
    print_result(syscall(SYS_writev, fd, 8L, 1L));
    printf("\nreadv at 8");
    print_result(syscall(SYS_readv, fd, 8L, 1L));
    printf("\nreadv -1");
    print_result(syscall(SYS_readv, fd, &piece, -1L));
    printf("\npreadv2 with a flag");
    print_result(preadv2(fd, &piece, 1, -1, RWF_DSYNC));
    printf("\n");
    close(fd);
}

int main(void)
{
    part = "mock";
    make_buffer(16);
    memset(buffer, 1, 16 * PAGE);
    begin("edges");
    make_objects();
    test_long_lists();
    test_hardware_queues();
    map(ioas, (uintptr_t)buffer, 4 * PAGE, FIXED | R | W, MOCK_START);
    test_last_page();
    test_mapping_without_permission();
    test_emptied_queue();
    test_vectors();
    return 0;
}

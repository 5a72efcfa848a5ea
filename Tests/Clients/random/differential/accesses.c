/* SPDX-License-Identifier: Apache-2.0 */
/* Accesses, DMA buffers, and commands on files that are no iommufd. */
#include "steps.h"

#include <linux/vfio.h>

/* ---- accesses ----------------------------------------------------------------------------- */

static uint32_t some_access(void)
{
    for (unsigned i = below(COUNT(accesses)), n = 0; n != COUNT(accesses);
         i = (i + 1) % COUNT(accesses), n++)
        if (accesses[i].fd >= 0)
            return (uint32_t)accesses[i].fd;
    return (uint32_t)context->fd;
}

void do_access(void)
{
    unsigned slot = below(COUNT(accesses));
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_CREATE_ACCESS, some_id(IOAS));

    if (accesses[slot].fd >= 0) {
        if (below(3))
            return;
        printf("close %s -> %d\n", accesses[slot].name, close(accesses[slot].fd));
        accesses[slot].fd = -1;
        return;
    }
    cmd.create_access.flags = below(4) != 0;
    if (is_answered(call(&CREATE_ACCESS, &cmd), sizeof(cmd)))
        accesses[slot].fd = (int)cmd.create_access.out_access_fd;
}

void do_access_pages(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_ACCESS_PAGES, some_access());

    cmd.access_pages.flags = below(2);
    cmd.access_pages.iova = MOCK_START + below(IOVA_PAGES) * PAGE;
    cmd.access_pages.length = chance(20) ? below(3 * PAGE) : (1 + below(2)) * PAGE;
    if (chance(60)) {
        struct mapping mapping = some_mapping();

        cmd.access_pages.iova = mapping.iova;
        cmd.access_pages.length = mapping.length;
        if (chance(30))
            cmd.access_pages.uptr = mapping.memory;
    }
    if (chance(8))
        cmd.access_pages.iova += below(PAGE);
    if (chance(5))
        cmd.access_pages.uptr = some_memory();
    if (chance(10)) {
        cmd.access_pages.flags |= MOCK_FLAGS_ACCESS_SYZ;
        cmd.access_pages.iova = some_syz_iova(3, 0x800);
    }
    call(&ACCESS_PAGES, &cmd);
}

void do_access_rw(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_ACCESS_RW, some_access());
    unsigned char bytes[300];

    memset(bytes, (int)below(256), sizeof(bytes));
    fill_guarded(&data_memory, 0);
    cmd.access_rw.flags = below(2);
    if (chance(20))
        cmd.access_rw.flags |= MOCK_ACCESS_RW_SLOW_PATH;
    cmd.access_rw.iova = below(2) ? some_iova() : some_mapping().iova;
    if (chance(30))
        cmd.access_rw.iova += below(PAGE);
    cmd.access_rw.length = chance(10) ? below(2 * PAGE) : below(sizeof(bytes));
    cmd.access_rw.uptr = chance(10) ? some_memory() : some_data(bytes, sizeof(bytes));
    if (chance(10)) {
        cmd.access_rw.flags |= MOCK_FLAGS_ACCESS_SYZ;
        cmd.access_rw.iova = some_syz_iova(3 * PAGE, 1);
    }
    call(&ACCESS_RW, &cmd);
}

void do_access_destroy(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_DESTROY_ACCESS_PAGES, some_access());

    cmd.destroy_access_pages.access_pages_id = below(5);
    call(&DESTROY_ACCESS_PAGES, &cmd);
}

void do_access_replace(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_ACCESS_REPLACE_IOAS, some_access());

    cmd.access_replace_ioas.ioas_id = some_id(IOAS);
    call(&ACCESS_REPLACE, &cmd);
}

/* ---- other files -------------------------------------------------------------------------- */

/**
 * Linux 7.3 answers 0 instead of the descriptor, which is the lowest free one. The simulator
 * answers the descriptor.
 */
void do_dmabuf(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_DMABUF_GET, 0);
    unsigned slot = DMABUF + below(2);
    int lowest = dup(0);
    long result;

    close(lowest);
    if (files[slot].fd >= 0) {
        if (below(3))
            return;
        printf("close %s -> %d\n", files[slot].name, close(files[slot].fd));
        files[slot].fd = -1;
        return;
    }
    cmd.dmabuf_get.length = (1 + below(4)) * PAGE;
    cmd.dmabuf_get.length -= chance(30);
    cmd.dmabuf_get.open_flags = (uint32_t)(O_RDWR | O_CLOEXEC);
    result = call(&DMABUF_GET, &cmd).result;
    if (result < 0)
        return;
    files[slot].fd = result ? (int)result : lowest;
    printf("flags %#x %#x, end %#lx\n", fcntl(files[slot].fd, F_GETFL),
           fcntl(files[slot].fd, F_GETFD), (long)lseek(files[slot].fd, 0, SEEK_END));
}

void do_revoke(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_DMABUF_REVOKE, 0);

    cmd.dmabuf_revoke.dmabuf_fd = files[DMABUF + below(2)].fd;
    cmd.dmabuf_revoke.revoked = below(2);
    call(&DMABUF_REVOKE, &cmd);
}

/** Issues commands of an iommufd on the file descriptor of a queue or an access. */
void do_other_file(void)
{
    static const unsigned long requests[] = {IOMMU_IOAS_ALLOC, IOMMU_TEST_CMD, IOMMU_DESTROY,
                                             VFIO_GET_API_VERSION};
    unsigned long request = requests[below(COUNT(requests))];
    int fd = chance(50) ? queues[below(COUNT(queues))].fd : accesses[below(COUNT(accesses))].fd;
    struct iommu_ioas_alloc cmd = {.size = sizeof(cmd)};

    if (fd < 0)
        return;
    name_descriptors();
    print_fd(fd);
    printf(" request %#lx", request);
    print_result(ioctl(fd, request, &cmd));
    printf("\n");
}

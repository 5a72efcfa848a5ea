/* SPDX-License-Identifier: Apache-2.0 */
/* The memory and the file offsets of a call as the device receives them. */
#include "front.h"

void test_memory(void)
{
    int fd = open_iommu();
    struct test_exchange exchange = {.in = {40, 0, 0, 0, 0, 2}};
    CHECK(ioctl(fd, TEST_EXCHANGE, &exchange) == 0 && exchange.out[0] == 42);
    CHECK_ERRNO(ioctl(fd, TEST_EXCHANGE, 8), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEST_EXCHANGE, ~0UL), EFAULT);
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + 4096, 4096);
    CHECK(ioctl(fd, TEST_EXCHANGE, pages + 4096 - sizeof exchange) == 0);
    CHECK_ERRNO(ioctl(fd, TEST_EXCHANGE, pages + 4096 - 48), EFAULT);
    CHECK(strcpy(pages + 4096 - sizeof IOMMU, IOMMU) &&
          is_node_at(pages + 4096 - sizeof IOMMU, O_RDWR));
    mprotect(pages, 4096, PROT_READ);
    CHECK_ERRNO(ioctl(fd, TEST_EXCHANGE, pages), EFAULT);
    munmap(pages, 4096);
    /* the device gets all bits of the request */
    CHECK_ERRNO(ioctl(fd, 0xc0103bf0, &exchange), ENOTTY);
    CHECK_ERRNO(ioctl(fd, 0x3bff, 0), ENOTTY);
    int null = open("/dev/null", O_RDWR), pipes[2];
    CHECK_ERRNO(ioctl(null, TEST_NULL), ENOTTY);
    CHECK(ioctl(fd, TEST_IDENTIFY_OTHER, (long)null) == 0);
    close(null);
    CHECK_ERRNO(ioctl(fd, TEST_IDENTIFY_OTHER, (long)null), EBADF);
    CHECK_ERRNO(ioctl(fd, TEST_IDENTIFY_OTHER, -1L), EBADF);
    CHECK(ioctl(fd, TEST_IDENTIFY_OTHER, (long)fd) == identify(fd));
    CHECK(pipe(pipes) == 0 && ioctl(fd, TEST_POKE, (long)pipes[1]) == 1);
    char byte = 0;
    CHECK(read(pipes[0], &byte, 1) == 1 && byte == '!');
    close(pipes[0]);
    close(pipes[1]);
    int no = 0;
    CHECK(ioctl(fd, FIONBIO, &no) == 0 && ioctl(fd, FIOCLEX) == 0);
    close(fd);
}

void test_offsets(void)
{
    int fd = open(VFIO, O_RDWR);
    for (unsigned region = 0; region < 9; region++) {
        uint64_t at = TEST_REGION(region) + 0x18, value = 0;
        CHECK(pread(fd, &value, 8, at) == 8 && value == at);
        CHECK(pwrite(fd, &at, 8, at) == 8);
    }
    uint64_t at = TEST_REGION(0), page[512] = {0};
    CHECK(pread(fd, page, sizeof page, at) == sizeof page && page[511] == at + 4088);
    struct iovec vector[2] = {{&page[0], 8}, {&page[1], 16}};
    memset(page, 0, sizeof page);
    CHECK(preadv(fd, vector, 2, at) == 24 && page[0] == at && page[2] == at + 16);
    page[0] = at;
    page[1] = at + 8;
    vector[1].iov_len = 8;
    CHECK(pwritev(fd, vector, 2, at) == 16);
    CHECK(preadv2(fd, vector, 2, at, 0) == 16 && pwritev2(fd, vector, 2, at, 0) == 16);
    CHECK_ERRNO(preadv2(fd, vector, 2, at, 2), EOPNOTSUPP); /* RWF_DSYNC */
    page[1] = 0;
    /* the second piece fails: the length of the first is the result */
    CHECK(pwritev(fd, vector, 2, at) == 8);
    CHECK_ERRNO(pread(fd, page, 3, at), EINVAL);
    CHECK_ERRNO(syscall(SYS_pread64, fd, 8L, 8L, at), EFAULT);
    CHECK_ERRNO(syscall(SYS_preadv, fd, 8L, 1L, at, 0L), EFAULT);
    CHECK_ERRNO(syscall(SYS_preadv, fd, vector, -1L, at, 0L), EINVAL);
    CHECK_ERRNO(pread(fd, page, 8, -1), EINVAL);

    /* Calls that the launcher does not handle have no effect on the stand-in file. */
    CHECK_ERRNO(read(fd, page, 8), EINVAL);
    CHECK_ERRNO(write(fd, page, 8), EINVAL);
    CHECK_ERRNO(readv(fd, vector, 2), EINVAL);
    CHECK(pread(fd, page, 8, 0) == 0);
    CHECK_ERRNO(pwrite(fd, page, 8, 0), EPERM);
    CHECK_ERRNO(ftruncate(fd, 4096), EPERM);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, at) == MAP_FAILED && errno == ENODEV);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED && errno == ENODEV);
    close(fd);

    char path[] = "/tmp/launcher-XXXXXX";
    int file = mkstemp(path);
    unlink(path);
    uint64_t far = TEST_REGION(3), text = 0;
    CHECK(pwrite(file, "12345678", 8, 0) == 8 && pread(file, &text, 8, 0) == 8);
    CHECK(memcmp(&text, "12345678", 8) == 0);
    /* a sparse file that is large enough to have an offset of a region */
    if (ftruncate(file, far + 16) == 0)
        CHECK(pwrite(file, "87654321", 8, far) == 8 && pread(file, &text, 8, far) == 8 &&
              memcmp(&text, "87654321", 8) == 0);
    void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    CHECK(map != MAP_FAILED && memcmp(map, "12345678", 8) == 0);
    munmap(map, 4096);
    close(file);
}

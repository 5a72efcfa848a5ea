/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client whose memory the server may not access, because it has no ptrace permission. Argument
 * structs work, because FUSE copies them; calls that need more fail.
 */
#include <sys/mman.h>

#include "lib/client.h"

int main(void)
{
    char memory[128], byte;
    int fd = open_node(), other = open_node();
    long page = sysconf(_SC_PAGESIZE);

    CHECK(request(fd, CUSE_TEST_ECHO, 41) == 42);
    CHECK(request(fd, CUSE_TEST_OPEN_ID, 0) != request(other, CUSE_TEST_OPEN_ID, 0));
    CHECK(ioctl(fd, CUSE_TEST_RETURN, &(struct cuse_test){.size = 24, .value = 7}) == 7);

    /* FUSE sends such a request three times. The device handles it once. */
    for (int i = 0; i < 5; i++)
        CHECK(request(fd, CUSE_TEST_COUNT, 0) == i + 1);

    /* longer and shorter structs, and no struct */
    char *longer = calloc(1, 4096);
    struct cuse_test *argument = (void *)longer;
    *argument = (struct cuse_test){.size = 4096, .value = 5};
    CHECK(ioctl(fd, CUSE_TEST_ECHO, argument) == 0 && argument->value == 6);
    CHECK_ERRNO(ioctl(fd, CUSE_TEST_ECHO, &(struct cuse_test){.size = 8}), EINVAL);
    CHECK_ERRNO(ioctl(fd, CUSE_TEST_ECHO, NULL), EFAULT);
    CHECK_ERRNO(ioctl(fd, CUSE_TEST_ECHO, (void *)-1L), EFAULT);
    CHECK_ERRNO(ioctl(fd, 0x3bff, NULL), ENOTTY);
    CHECK_ERRNO(ioctl(fd, 0x3bff, argument), ENOTTY);

    /* a struct that continues in an unmapped page */
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + page, page);
    argument = (void *)(pages + page - 8);
    argument->size = sizeof(*argument);
    CHECK_ERRNO(ioctl(fd, CUSE_TEST_ECHO, argument), EFAULT);
    /* a struct that cannot be written */
    argument = (void *)pages;
    argument->size = sizeof(*argument);
    mprotect(pages, page, PROT_READ);
    CHECK_ERRNO(ioctl(fd, CUSE_TEST_ECHO, argument), EFAULT);

    /* pointers, file descriptors in both directions and file offsets do not work */
    struct cuse_test pointer = {sizeof(pointer), 1, (__u64)(unsigned long)longer, 16};
    CHECK_ERRNO(ioctl(fd, CUSE_TEST_SUM, &pointer), EFAULT);
    CHECK_ERRNO(ioctl(fd, CUSE_TEST_FILL, &pointer), EFAULT);
    CHECK_ERRNO(request(fd, CUSE_TEST_IDENTIFY, other), EPERM);
    CHECK_ERRNO(request(fd, CUSE_TEST_QUEUE, 0), EOPNOTSUPP);
    snprintf(memory, sizeof(memory), "%s-nodes/memory0", node_path());
    int offsets = open(memory, O_RDWR);
    if (offsets >= 0)
        CHECK_ERRNO(pread(offsets, &byte, 1, 4096), EPERM);
    return print_totals("denied");
}

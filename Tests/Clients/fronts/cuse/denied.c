/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client whose memory the server may not access, because it has no ptrace permission. Argument
 * structs work, because FUSE copies them; calls that need more fail.
 */
#include <sys/mman.h>

#include "../lib/front_client.h"

int main(void)
{
    char byte;
    int fd = open_node(), other = open_node();
    long page = sysconf(_SC_PAGESIZE);

    CHECK(request(fd, TEST_ECHO, 41) == 42);
    CHECK(open_id(fd) != open_id(other));
    CHECK(ioctl(fd, TEST_RETURN, &(struct test_argument){.size = 24, .value = 7}) == 7);

    /* FUSE sends such a request three times. The device handles it once. */
    for (int i = 0; i < 5; i++)
        CHECK(request(fd, TEST_COUNT, 0) == i + 1);

    /* longer and shorter structs, and no struct */
    char *longer = calloc(1, 4096);
    struct test_argument *argument = (void *)longer;
    *argument = (struct test_argument){.size = 4096, .value = 5};
    CHECK(ioctl(fd, TEST_ECHO, argument) == 0 && argument->value == 6);
    CHECK_ERRNO(ioctl(fd, TEST_ECHO, &(struct test_argument){.size = 8}), EINVAL);
    CHECK_ERRNO(ioctl(fd, TEST_ECHO, NULL), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEST_ECHO, (void *)-1L), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEST_UNKNOWN, NULL), ENOTTY);
    CHECK_ERRNO(ioctl(fd, TEST_UNKNOWN, argument), ENOTTY);

    /* a struct that continues in an unmapped page */
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + page, page);
    argument = (void *)(pages + page - 8);
    argument->size = sizeof(*argument);
    CHECK_ERRNO(ioctl(fd, TEST_ECHO, argument), EFAULT);
    /* a struct that cannot be written */
    argument = (void *)pages;
    argument->size = sizeof(*argument);
    mprotect(pages, page, PROT_READ);
    CHECK_ERRNO(ioctl(fd, TEST_ECHO, argument), EFAULT);

    /* pointers, file descriptors in both directions and file offsets do not work */
    struct test_argument pointer = {sizeof(pointer), 1, (uintptr_t)longer, 16};
    CHECK_ERRNO(ioctl(fd, TEST_SUM, &pointer), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEST_FILL, &pointer), EFAULT);
    CHECK_ERRNO(request(fd, TEST_IDENTIFY, other), EPERM);
    CHECK_ERRNO(make_queue(fd, false, NULL), EOPNOTSUPP);
    int offsets = open(offsets_path(), O_RDWR);
    if (offsets >= 0)
        CHECK_ERRNO(pread(offsets, &byte, 1, 4096), EPERM);
    return print_totals("denied");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that the launcher answers for its stand-in files, on these and on files of the host. */
#include "launcher_front.h"

#include <sys/mman.h>
#include <sys/uio.h>

/** Calls on a stand-in file fail as on the device. */
static void test_stand_in(void)
{
    uint64_t word = 0;
    struct iovec vector[2] = {{&word, 4}, {(char *)&word + 4, 4}};
    int fd = open(IOMMU, O_RDWR);

    CHECK_ERRNO(read(fd, &word, 8), EINVAL);
    CHECK_ERRNO(write(fd, &word, 8), EINVAL);
    CHECK_ERRNO(readv(fd, vector, 2), EINVAL);
    CHECK_ERRNO(pread(fd, &word, 8, 0), EINVAL);
    CHECK_ERRNO(pwrite(fd, &word, 8, 0), EINVAL);
    CHECK_ERRNO(ftruncate(fd, 4096), EINVAL);
    CHECK_ERRNO(lseek(fd, 0, SEEK_SET), ESPIPE);
    CHECK_ERRNO(fsync(fd), EINVAL);
    close(fd);
}

/** A file of the host at the offset of a VFIO region, and a mapping of it. */
static void test_host_file(void)
{
    char path[] = "/tmp/launcher-XXXXXX";
    int file = mkstemp(path);
    uint64_t far = TEST_REGION(3), text = 0;

    unlink(path);
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

void test_stand_ins(void)
{
    test_stand_in();
    test_host_file();
}

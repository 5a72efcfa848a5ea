/* SPDX-License-Identifier: Apache-2.0 */
/* Paths that name nodes, and what stat(2) and similar calls report about them. */
#include "launcher_front.h"

#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

/** A path at the end of a page that no page follows. */
static void test_path_at_page_end(void)
{
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *path = pages + 4096 - sizeof(IOMMU);

    munmap(pages + 4096, 4096);
    strcpy(path, IOMMU);
    CHECK(is_node_at(path, O_RDWR));
    munmap(pages, 4096);
}

void test_paths(void)
{
    static const char *const spellings[] = {
        IOMMU, "/dev/iommufd-sim", VFIO, "/dev/vfio-sim/devices/vfio0", "//dev//./iommu",
        "/dev/../dev/iommu", "/dev/vfio/../vfio/devices/vfio0", "/proc/self/root/dev/iommu",
    };
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        CHECK(is_node_at(spellings[i], O_RDWR));
        CHECK(access(spellings[i], R_OK | W_OK) == 0);
    }
    test_path_at_page_end();
    CHECK(is_node_at(IOMMU, O_RDWR | O_CREAT | O_CLOEXEC));
    CHECK_ERRNO(open(IOMMU, O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
    CHECK_ERRNO(open(IOMMU, O_RDWR | O_DIRECTORY), ENOTDIR);
    CHECK_ERRNO(open(IOMMU, O_RDWR | O_DIRECT), EINVAL);
    static const int modes[] = {
        O_RDONLY, O_WRONLY, O_WRONLY | O_CREAT | O_TRUNC, O_RDWR | O_APPEND, O_RDWR | O_NONBLOCK,
    };
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        int file = open(IOMMU, modes[i], 0600);

        CHECK(open_id(file) > 0);
        CHECK((fcntl(file, F_GETFL) & ~0100000) == (modes[i] & ~(O_CREAT | O_TRUNC)));
        close(file);
    }

    char directory[] = "/tmp/launcher-XXXXXX", path[64];
    CHECK(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/link", directory);
    CHECK(symlink(IOMMU, path) == 0 && is_node_at(path, O_RDWR));
    unlink(path);
    CHECK(symlink("../../dev/iommu", path) == 0 && is_node_at(path, O_RDWR));
    unlink(path);
    CHECK(symlink("/dev", path) == 0);
    char through[80];
    snprintf(through, sizeof through, "%s/iommu", path);
    CHECK(is_node_at(through, O_RDWR));
    unlink(path);
    CHECK(!is_node_at(path, O_RDWR | O_CREAT)); /* another file of that name */
    unlink(path);

    int dev = open("/dev", O_PATH | O_DIRECTORY), cwd = open(".", O_PATH | O_DIRECTORY);
    int fd = openat(dev, "iommu", O_RDWR);
    CHECK(open_id(fd) > 0);
    close(fd);
    struct open_how how = {.flags = O_RDWR | O_CLOEXEC};
    fd = syscall(SYS_openat2, dev, "./iommu", &how, sizeof how);
    CHECK(open_id(fd) > 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    close(fd);
    CHECK(chdir("/dev") == 0 && is_node_at("iommu", O_RDWR) &&
          is_node_at("vfio/devices/vfio0", O_RDWR));
    CHECK(fchdir(cwd) == 0);
    close(dev);
    close(cwd);

    fd = open(IOMMU, O_RDWR);
    CHECK(fcntl(fd, F_GETFD) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDWR);
    /* a new open file, as for any node */
    CHECK(open_id(again) > 0 && open_id(again) != open_id(fd));
    close(again);
    close(fd);
    rmdir(directory);
}

static bool is_node(const struct stat *status, unsigned number)
{
    return S_ISCHR(status->st_mode) && status->st_rdev == makedev(511, number);
}

void test_status(void)
{
    struct stat status;
    struct statx extended;
    int fd = open(VFIO, O_RDWR);
    CHECK(fstat(fd, &status) == 0 && is_node(&status, 1));
    CHECK(stat(IOMMU, &status) == 0 && is_node(&status, 0));
    CHECK(lstat(IOMMU, &status) == 0 && is_node(&status, 0));
    CHECK(syscall(SYS_newfstatat, fd, "", &status, AT_EMPTY_PATH) == 0 && is_node(&status, 1));
    CHECK(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &extended) == 0);
    CHECK(S_ISCHR(extended.stx_mode) && extended.stx_rdev_major == 511);
    CHECK(statx(AT_FDCWD, VFIO, 0, STATX_BASIC_STATS, &extended) == 0);
    CHECK(S_ISCHR(extended.stx_mode) && extended.stx_rdev_minor == 1);
    CHECK(stat("/dev/vfio/devices", &status) == 0 && S_ISDIR(status.st_mode));
    CHECK(faccessat(AT_FDCWD, VFIO, W_OK, AT_EACCESS) == 0);
    CHECK_ERRNO(access(IOMMU, X_OK), EACCES);
    CHECK_ERRNO(stat(IOMMU "x", &status), ENOENT);
    CHECK_ERRNO(stat(IOMMU, (struct stat *)8), EFAULT);
    CHECK_ERRNO(stat((char *)8, &status), EFAULT);
    CHECK(stat("/etc/passwd", &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0);
    int other = open("/etc/passwd", O_RDONLY);
    CHECK(fstat(other, &status) == 0 && S_ISREG(status.st_mode));
    close(other);
    close(fd);
}

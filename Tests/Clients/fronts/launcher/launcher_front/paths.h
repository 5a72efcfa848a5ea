/* SPDX-License-Identifier: Apache-2.0 */
/* Which paths are nodes, and what stat(2) and its relatives say of them. */
#ifndef LAUNCHER_PATHS_H
#define LAUNCHER_PATHS_H

#include "front.h"

static bool opens(const char *path, int flags)
{
    int fd = open(path, flags, 0600);
    bool is_ours = fd >= 0 && identify(fd) > 0;
    close(fd);
    return is_ours;
}

static void test_paths(void)
{
    static const char *const spellings[] = {
        IOMMU, "/dev/iommufd-sim", VFIO, "/dev/vfio-sim/devices/vfio0", "//dev//./iommu",
        "/dev/../dev/iommu", "/dev/vfio/../vfio/devices/vfio0", "/proc/self/root/dev/iommu",
    };
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        CHECK(opens(spellings[i], O_RDWR));
        CHECK(access(spellings[i], R_OK | W_OK) == 0);
    }
    CHECK(opens(IOMMU, O_RDWR | O_CREAT | O_CLOEXEC));
    CHECK_ERRNO(open(IOMMU, O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
    /* Not looked at, so the host's answer: ENOTDIR where it has such a node itself. */
    CHECK(open(IOMMU, O_RDWR | O_DIRECTORY) == -1 && (errno == ENOENT || errno == ENOTDIR));

    char directory[] = "/tmp/launcher-XXXXXX", path[64];
    CHECK(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/link", directory);
    CHECK(symlink(IOMMU, path) == 0 && opens(path, O_RDWR));
    unlink(path);
    CHECK(symlink("../../dev/iommu", path) == 0 && opens(path, O_RDWR));
    unlink(path);
    CHECK(symlink("/dev", path) == 0);
    char through[80];
    snprintf(through, sizeof through, "%s/iommu", path);
    CHECK(opens(through, O_RDWR));
    unlink(path);
    CHECK(!opens(path, O_RDWR | O_CREAT)); /* a file of that name is none of ours */
    unlink(path);

    int dev = open("/dev", O_PATH | O_DIRECTORY), cwd = open(".", O_PATH | O_DIRECTORY);
    int fd = openat(dev, "iommu", O_RDWR);
    CHECK(identify(fd) > 0);
    close(fd);
    struct open_how how = {.flags = O_RDWR | O_CLOEXEC};
    fd = syscall(SYS_openat2, dev, "./iommu", &how, sizeof how);
    CHECK(identify(fd) > 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    close(fd);
    CHECK(chdir("/dev") == 0 && opens("iommu", O_RDWR) && opens("vfio/devices/vfio0", O_RDWR));
    CHECK(fchdir(cwd) == 0);
    close(dev);
    close(cwd);

    fd = open(IOMMU, O_RDWR);
    CHECK(fcntl(fd, F_GETFD) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDWR);
    CHECK(identify(again) > 0 && identify(again) != identify(fd)); /* a new open, as of any node */
    close(again);
    close(fd);
    rmdir(directory);
}

static bool is_node(const struct stat *status, unsigned number)
{
    return S_ISCHR(status->st_mode) && status->st_rdev == makedev(511, number);
}

static void test_status(void)
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

#endif /* LAUNCHER_PATHS_H */

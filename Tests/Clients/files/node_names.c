/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening the node of iommufd with every flag, and naming it in every way: links, directory
 * descriptors, links of procfs, openat2(2) with restrictions, and calls that take a path. The
 * node's own name is not printed. The root user does not make the calls that would remove the node.
 */
#include "transcript/transcript.h"

#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *node;
static char directory[256], name[256];

/** Prints what an open has returned, and closes the file. */
static void opened(const char *what, int fd)
{
    char link[64], target[256] = "";
    uint64_t zero[4] = {sizeof(zero)};

    printf("%s", what);
    print_result(fd < 0 ? -1 : 0);
    if (fd >= 0) {
        printf(" F_GETFL=%#o FD_CLOEXEC=%d", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        printf(" link %s", readlink(link, target, sizeof(target) - 1) > 0 &&
                                   !strcmp(target, node) ? "to the node" : "elsewhere");
        printf("\n  IOAS_ALLOC");
        print_result(ioctl(fd, IOMMU_IOAS_ALLOC, zero));
        printf(" read");
        print_result(read(fd, zero, 1));
        printf(" write");
        print_result(write(fd, zero, 1));
        close(fd);
    }
    printf("\n");
}

static void print_opens(void)
{
    static const struct {
        const char *name;
        int flags;
    } opens[] = {
        {"O_RDONLY", O_RDONLY},
        {"O_WRONLY", O_WRONLY},
        {"O_RDWR", O_RDWR},
        {"access mode 3", 3},
        {"O_RDWR O_CLOEXEC", O_RDWR | O_CLOEXEC},
        {"O_PATH", O_PATH},
        {"O_PATH O_NOFOLLOW", O_PATH | O_NOFOLLOW},
        {"O_PATH O_DIRECTORY", O_PATH | O_DIRECTORY},
        {"O_RDWR O_DIRECTORY", O_RDWR | O_DIRECTORY},
        {"O_RDONLY O_DIRECTORY", O_RDONLY | O_DIRECTORY},
        {"O_RDWR O_DIRECT", O_RDWR | O_DIRECT},
        {"O_RDWR O_CREAT", O_RDWR | O_CREAT},
        {"O_WRONLY O_CREAT O_TRUNC", O_WRONLY | O_CREAT | O_TRUNC},
        {"O_RDWR O_CREAT O_EXCL", O_RDWR | O_CREAT | O_EXCL},
        {"O_CREAT O_DIRECTORY", O_RDONLY | O_CREAT | O_DIRECTORY},
        {"O_RDWR O_EXCL", O_RDWR | O_EXCL},
        {"O_RDWR O_TRUNC", O_RDWR | O_TRUNC},
        {"O_RDWR O_TMPFILE", O_RDWR | O_TMPFILE},
        {"O_RDONLY O_TMPFILE", O_RDONLY | O_TMPFILE},
        {"O_RDWR O_APPEND", O_RDWR | O_APPEND},
        {"O_RDWR O_NONBLOCK", O_RDWR | O_NONBLOCK},
        {"O_RDWR O_SYNC", O_RDWR | O_SYNC},
        {"O_RDWR O_DSYNC", O_RDWR | O_DSYNC},
        {"O_RDWR O_NOCTTY", O_RDWR | O_NOCTTY},
        {"unknown flag", O_RDWR | 0x40000000},
    };

    section("open");
    for (size_t i = 0; i != COUNT(opens); i++)
        opened(opens[i].name, open(node, opens[i].flags, 0600));
    opened("creat", creat(node, 0600));
}

static void open_how(const char *what, int base, const char *path, uint64_t flags, uint64_t mode,
                     uint64_t resolve)
{
    struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};

    opened(what, syscall(SYS_openat2, base, path, &how, sizeof(how)));
}

static void print_openat2(void)
{
    struct {
        struct open_how how;
        uint64_t more;
    } long_how = {.how = {.flags = O_RDWR}};
    int parent = open(directory, O_PATH | O_DIRECTORY);
    char up[300];

    section("openat2");
    open_how("O_RDWR", AT_FDCWD, node, O_RDWR, 0, 0);
    open_how("an unknown flag", AT_FDCWD, node, O_RDWR | 1ULL << 40, 0, 0);
    open_how("a mode without O_CREAT", AT_FDCWD, node, O_RDWR, 0600, 0);
    open_how("a mode with O_CREAT", AT_FDCWD, node, O_RDWR | O_CREAT, 0600, 0);
    open_how("a bad mode", AT_FDCWD, node, O_RDWR | O_CREAT, 1 << 20, 0);
    open_how("an unknown restriction", AT_FDCWD, node, O_RDWR, 0, 0x100);
    open_how("O_PATH O_RDWR", AT_FDCWD, node, O_PATH | O_RDWR | O_APPEND, 0, 0);
    open_how("NO_SYMLINKS", AT_FDCWD, node, O_RDWR, 0, RESOLVE_NO_SYMLINKS);
    open_how("NO_MAGICLINKS", AT_FDCWD, node, O_RDWR, 0, RESOLVE_NO_MAGICLINKS);
    open_how("NO_XDEV from the root", AT_FDCWD, node, O_RDWR, 0, RESOLVE_NO_XDEV);
    open_how("NO_XDEV from its directory", parent, name, O_RDWR, 0, RESOLVE_NO_XDEV);
    open_how("BENEATH, absolute", parent, node, O_RDWR, 0, RESOLVE_BENEATH);
    open_how("BENEATH", parent, name, O_RDWR, 0, RESOLVE_BENEATH);
    snprintf(up, sizeof(up), "../dev/%s", name);
    open_how("BENEATH, through ..", parent, up, O_RDWR, 0, RESOLVE_BENEATH);
    open_how("IN_ROOT", parent, name, O_RDWR, 0, RESOLVE_IN_ROOT);
    snprintf(up, sizeof(up), "/../%s", name);
    open_how("IN_ROOT, above its root", parent, up, O_RDWR, 0, RESOLVE_IN_ROOT);
    open_how("IN_ROOT and BENEATH", parent, name, O_RDWR, 0, RESOLVE_IN_ROOT | RESOLVE_BENEATH);
    open_how("CACHED O_TRUNC", parent, name, O_RDWR | O_TRUNC, 0, RESOLVE_CACHED);
    opened("a short struct", syscall(SYS_openat2, AT_FDCWD, node, &long_how, 16));
    opened("a long struct", syscall(SYS_openat2, AT_FDCWD, node, &long_how, sizeof(long_how)));
    long_how.more = 1;
    opened("with a tail", syscall(SYS_openat2, AT_FDCWD, node, &long_how, sizeof(long_how)));
    opened("a huge struct", syscall(SYS_openat2, AT_FDCWD, node, &long_how, 5000));
    close(parent);
}

static void print_spellings(void)
{
    char path[600], temporary[] = "/tmp/node_names.XXXXXX", link[300];
    int parent = open(directory, O_RDONLY | O_DIRECTORY), fd = open(node, O_RDWR);
    int path_only = open(node, O_PATH), here = open(".", O_RDONLY | O_DIRECTORY);

    section("names");
    opened("relative to a descriptor", openat(parent, name, O_RDWR));
    opened("relative to a file", openat(fd, name, O_RDWR));
    opened("relative to nothing", openat(-1, name, O_RDWR));
    opened("absolute from nowhere", openat(-1, node, O_RDWR));
    snprintf(path, sizeof(path), "%s/", node);
    opened("a slash at the end", open(path, O_RDWR));
    snprintf(path, sizeof(path), "%s/.", node);
    opened("/. at the end", open(path, O_RDWR));
    snprintf(path, sizeof(path), "%s/x", node);
    opened("a name below it", open(path, O_RDWR));
    snprintf(path, sizeof(path), "%s/../%s", node, name);
    opened("/.. through it", open(path, O_RDWR));
    snprintf(path, sizeof(path), "/dev/../dev/./%s", name);
    opened("dots", open(path, O_RDWR));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    opened("/proc/self/fd", open(path, O_RDONLY));
    opened("/proc/self/fd O_NOFOLLOW", open(path, O_RDONLY | O_NOFOLLOW));
    opened("/proc/self/fd O_CREAT O_EXCL", open(path, O_RDONLY | O_CREAT | O_EXCL, 0600));
    snprintf(path, sizeof(path), "/proc/%d/task/%d/fd/%d", getpid(), getpid(), path_only);
    opened("/proc/PID/task/TID/fd of O_PATH", open(path, O_RDWR));
    snprintf(path, sizeof(path), "/proc/self/root%s", node);
    opened("/proc/self/root", open(path, O_RDWR));
    if (mkdtemp(temporary)) {
        snprintf(link, sizeof(link), "%s/link", temporary);
        if (!symlink(node, link)) {
            opened("a link", open(link, O_RDWR));
            opened("a link O_NOFOLLOW", open(link, O_RDWR | O_NOFOLLOW));
            opened("a link O_CREAT", open(link, O_RDWR | O_CREAT, 0600));
            opened("a link O_CREAT O_EXCL", open(link, O_RDWR | O_CREAT | O_EXCL, 0600));
            open_how("a link NO_SYMLINKS", AT_FDCWD, link, O_RDWR, 0, RESOLVE_NO_SYMLINKS);
            snprintf(path, sizeof(path), "%s/", link);
            opened("a link with a slash", open(path, O_RDWR));
            unlink(link);
        }
        if (!symlink(directory, link)) {
            snprintf(path, sizeof(path), "%s/%s", link, name);
            opened("a link to its directory", open(path, O_RDWR));
            unlink(link);
        }
        rmdir(temporary);
    }
    if (!fchdir(parent)) {
        opened("in the working directory", open(name, O_RDWR));
        snprintf(path, sizeof(path), "./%s", name);
        opened("./", open(path, O_RDWR));
    }
    if (!fchdir(here))
        close(here);
    close(parent);
    close(fd);
    close(path_only);
}

#define CALL(what, call)                                                                           \
    do {                                                                                           \
        printf(what);                                                                              \
        fflush(stdout);                                                                            \
        print_result(call);                                                                        \
        printf("\n");                                                                              \
    } while (0)

static void print_status(const char *what, long result, const struct stat *status)
{
    printf("%s", what);
    print_result(result);
    if (!result)
        printf(" type=%#o nlink=%lu size=%ld rdev %s", status->st_mode & S_IFMT,
               (long)status->st_nlink, (long)status->st_size, status->st_rdev ? "some" : "none");
    printf("\n");
}

static void print_path_calls(void)
{
    static char bytes[4096];
    struct stat status = {0}, second = {0};
    struct statfs system;
    char path[300], real[4096];
    int fd = open(node, O_RDWR), path_only = open(node, O_PATH);

    section("calls on paths");
    print_status("stat", stat(node, &status), &status);
    print_status("lstat", lstat(node, &second), &second);
    printf("  the same inode: %d\n", status.st_ino == second.st_ino);
    print_status("fstat", fstat(fd, &second), &second);
    printf("  the same inode and device: %d %d\n", status.st_ino == second.st_ino,
           status.st_dev == second.st_dev);
    print_status("fstat of O_PATH", fstat(path_only, &second), &second);
    printf("  the same inode and device: %d %d\n", status.st_ino == second.st_ino,
           status.st_dev == second.st_dev);
    printf("  since 1970: %d\n", status.st_mtime > 1000000000);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    printf("lstat of its link: %d\n", !lstat(path, &second) && S_ISLNK(second.st_mode));
    printf("realpath of its link: %d\n", realpath(path, real) && !strcmp(real, node));
    printf("realpath: %d\n", realpath(node, real) && !strcmp(real, node));
    CALL("access F_OK", access(node, F_OK));
    CALL("access R_OK W_OK", access(node, R_OK | W_OK));
    CALL("access X_OK", access(node, X_OK));
    CALL("access of a bad mode", access(node, 8));
    CALL("faccessat2 AT_EMPTY_PATH", syscall(SYS_faccessat2, fd, "", R_OK, AT_EMPTY_PATH));
    CALL("readlink", readlink(node, bytes, sizeof(bytes)));
    CALL("chdir", chdir(node));
    CALL("chroot", chroot(node));
    CALL("truncate", truncate(node, 0));
    CALL("mkdir", mkdir(node, 0700));
    CALL("mknod", mknod(node, S_IFREG | 0600, 0));
    CALL("symlink", symlink("x", node));
    CALL("rmdir", geteuid() ? rmdir(node) : (errno = EACCES, -1));
    CALL("link onto it", linkat(AT_FDCWD, "/dev/null", AT_FDCWD, node, 0));
    CALL("statfs", statfs(node, &system));
    CALL("listxattr", listxattr(node, bytes, sizeof(bytes)));
    CALL("lgetxattr user.x", lgetxattr(node, "user.x", bytes, sizeof(bytes)));
    CALL("getxattr security.x", getxattr(node, "security.x", bytes, sizeof(bytes)));
    CALL("setxattr user.x", setxattr(node, "user.x", bytes, 1, 0));
    CALL("utimensat now", utimensat(AT_FDCWD, node, NULL, 0));
    CALL("chown to nobody", chown(node, -1, -1));
    CALL("open of its O_PATH descriptor", ioctl(path_only, IOMMU_IOAS_ALLOC, bytes));
    CALL("fsync of O_PATH", fsync(path_only));
    CALL("dup and read of O_PATH", read(path_only, bytes, 1));
    if (geteuid()) {
        CALL("chmod", chmod(node, 0666));
        CALL("chown", chown(node, 0, 0));
        CALL("unlink", unlink(node));
        CALL("rename", rename(node, "/dev/x"));
    }
    CALL("execve", execl(node, node, NULL));
    close(fd);
    close(path_only);
}

static void print_listing(void)
{
    DIR *listing = opendir(directory);
    struct dirent *entry;
    int found[2] = {0, 0}, type = 0;

    section("its directory");
    if (!listing)
        return;
    for (int round = 0; round != 2; round++) {
        while ((entry = readdir(listing)))
            if (!strcmp(entry->d_name, name)) {
                found[round]++;
                type = entry->d_type;
            }
        rewinddir(listing);
    }
    closedir(listing);
    printf("listed %d times, after a rewind %d times, type %d\n", found[0], found[1], type);
}

/** A node with the same number in another directory. Only the root user may make one. */
static void print_other_node(void)
{
    char temporary[] = "/dev/node_names.XXXXXX", path[300];
    struct stat status;

    section("a node with its number elsewhere");
    if (stat(node, &status) || !mkdtemp(temporary))
        return;
    snprintf(path, sizeof(path), "%s/other", temporary);
    if (!mknod(path, S_IFCHR | 0666, status.st_rdev)) {
        int fd = open(path, O_RDWR);
        uint32_t ioas[3] = {sizeof(ioas)};

        printf("IOAS_ALLOC");
        print_result(fd < 0 ? -1 : ioctl(fd, IOMMU_IOAS_ALLOC, ioas));
        printf("\n");
        close(fd);
        unlink(path);
    }
    rmdir(temporary);
}

int main(void)
{
    static char copies[2][256];

    node = getenv("IOMMUFD");
    if (!node)
        node = "/dev/iommu";
    begin("the node");
    snprintf(copies[0], sizeof(copies[0]), "%s", node);
    snprintf(copies[1], sizeof(copies[1]), "%s", node);
    strcpy(directory, dirname(copies[0]));
    strcpy(name, basename(copies[1]));
    print_opens();
    print_openat2();
    print_spellings();
    print_path_calls();
    print_listing();
    print_other_node();
    return 0;
}

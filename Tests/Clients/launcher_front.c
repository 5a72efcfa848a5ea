/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program can do with descriptors, paths, threads, signals and memory, under the launcher.
 * Runs against the launcher's own test device, whose answers show how each call was delivered.
 *
 *   launcher_front [TEST...]     one line per test; status 1 when one failed
 *   launcher_front storm         everything at once until killed
 *   launcher_front live          how many files the server holds beside this one
 *   launcher_front orphan        kills its supervisor and sees what becomes of its calls
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher.h"

#define IOMMU "/dev/iommu"
#define VFIO "/dev/vfio/devices/vfio0"

static const char *self;
static bool failed;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("  line %d: %s (errno %s)\n", __LINE__, #condition, strerror(errno));           \
            failed = true;                                                                         \
        }                                                                                          \
    } while (0)
#define CHECK_ERRNO(call, expected)                                                                \
    do {                                                                                           \
        errno = 0;                                                                                 \
        long result_ = (call);                                                                     \
        CHECK(result_ == -1 && errno == (expected));                                               \
    } while (0)

static int device(void) { return open(IOMMU, O_RDWR | O_CLOEXEC); }
static int identify(int fd) { return ioctl(fd, TEST_IDENTIFY); }
static int live(int fd) { return ioctl(fd, TEST_LIVE); }

/* Runs `body` in a child; true when it returned true. */
static bool in_child(bool (*body)(int), int argument)
{
    pid_t child = fork();
    if (child == 0)
        _exit(body(argument) ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- identity --------------------------------------------------------------------------- */

static bool same_in_child(int fd)
{
    int id = identify(fd), own = device();
    return id > 0 && own >= 0 && identify(own) > 0 && identify(own) != id && identify(fd) == id;
}

static bool same_after_exec(int fd)
{
    char number[16], id[16];
    snprintf(number, sizeof number, "%d", fd);
    snprintf(id, sizeof id, "%d", identify(fd));
    execl(self, self, "check-id", number, id, NULL);
    return false;
}

static void send_fd(int socket, int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec vector = {"x", 1};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    control.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    CHECK(sendmsg(socket, &message, 0) == 1);
}

static int receive_fd(int socket)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    char byte;
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    int fd = -1;
    if (recvmsg(socket, &message, 0) == 1 && message.msg_controllen)
        memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    return fd;
}

static void test_identity(void)
{
    int a = device(), b = device();
    CHECK(a >= 0 && b >= 0 && identify(a) > 0 && identify(b) > 0 && identify(a) != identify(b));
    CHECK(fcntl(a, F_GETFD) == FD_CLOEXEC);
    CHECK((fcntl(a, F_GETFL) & O_ACCMODE) == O_RDWR);
    int id = identify(a), copy = dup(a);
    CHECK(identify(copy) == id);
    CHECK(dup2(a, 700) == 700 && identify(700) == id);
    close(a);
    close(700);
    CHECK(identify(copy) == id);
    CHECK(in_child(same_in_child, copy));
    CHECK(in_child(same_after_exec, copy));

    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    int before = live(b);
    send_fd(pair[0], copy);
    close(copy);
    CHECK(live(b) == before); /* in flight */
    int received = receive_fd(pair[1]);
    CHECK(identify(received) == id);
    close(received);
    CHECK(live(b) == before - 1);
    CHECK_ERRNO(identify(received), EBADF);
    close(pair[0]);
    close(pair[1]);
    close(b);
}

/* The last close is seen before the next call, however it happened. */
static bool leave_open(int fd) { return device() >= 0 && device() >= 0 && live(fd) > 2; }

static void test_release(void)
{
    int fd = device(), before = live(fd);
    for (int i = 0; i < 200; i++) {
        int other = device();
        CHECK(live(fd) == before + 1);
        close(other);
        CHECK(live(fd) == before);
    }
    CHECK(in_child(leave_open, fd));
    CHECK(live(fd) == before);
    close(fd);
}

/* ---- paths ------------------------------------------------------------------------------ */

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

/* ---- data ------------------------------------------------------------------------------- */

static void test_memory(void)
{
    int fd = device();
    struct test_exchange exchange = {.in = {40, 0, 0, 0, 0, 2}};
    CHECK(ioctl(fd, TEST_EXCHANGE, &exchange) == 0 && exchange.out[0] == 42);
    CHECK_ERRNO(ioctl(fd, TEST_EXCHANGE, 8), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEST_EXCHANGE, ~0UL), EFAULT);
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + 4096, 4096);
    CHECK(ioctl(fd, TEST_EXCHANGE, pages + 4096 - sizeof exchange) == 0);
    CHECK_ERRNO(ioctl(fd, TEST_EXCHANGE, pages + 4096 - 48), EFAULT);
    CHECK(strcpy(pages + 4096 - sizeof IOMMU, IOMMU) && opens(pages + 4096 - sizeof IOMMU, O_RDWR));
    mprotect(pages, 4096, PROT_READ);
    CHECK_ERRNO(ioctl(fd, TEST_EXCHANGE, pages), EFAULT);
    munmap(pages, 4096);
    CHECK_ERRNO(ioctl(fd, 0xc0103bf0, &exchange), ENOTTY); /* delivered with all its bits */
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

static void test_offsets(void)
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
    CHECK(pwritev(fd, vector, 2, at) == 8); /* the second piece fails: the first is reported */
    CHECK_ERRNO(pread(fd, page, 3, at), EINVAL);
    CHECK_ERRNO(syscall(SYS_pread64, fd, 8L, 8L, at), EFAULT);
    CHECK_ERRNO(syscall(SYS_preadv, fd, 8L, 1L, at, 0L), EFAULT);
    CHECK_ERRNO(syscall(SYS_preadv, fd, vector, -1L, at, 0L), EINVAL);
    CHECK_ERRNO(pread(fd, page, 8, -1), EINVAL);

    /* What is not trapped finds nothing and changes nothing. */
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
    if (ftruncate(file, far + 16) == 0) /* a sparse file that large is no device */
        CHECK(pwrite(file, "87654321", 8, far) == 8 && pread(file, &text, 8, far) == 8 &&
              memcmp(&text, "87654321", 8) == 0);
    void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    CHECK(map != MAP_FAILED && memcmp(map, "12345678", 8) == 0);
    munmap(map, 4096);
    close(file);
}

/* ---- mappings --------------------------------------------------------------------------- */

static uint32_t *map(int fd, int protection, int flags, size_t length, off_t offset)
{
    errno = 0;
    return mmap(NULL, length, protection, flags, fd, offset);
}

static uint32_t *map_region(int fd)
{
    return map(fd, PROT_READ | PROT_WRITE, MAP_SHARED, TEST_MAP_LENGTH, TEST_MAP_OFFSET);
}

static uint32_t *inherited;

/* Our parent unmaps its own meanwhile. */
static bool mapped_in_child(int fd)
{
    inherited[1] = 78;
    while (inherited[2] == 0)
        usleep(1000);
    bool is_mapped = ioctl(fd, TEST_IS_MAPPED) == 1;
    munmap(inherited, TEST_MAP_LENGTH);
    return is_mapped && ioctl(fd, TEST_IS_MAPPED) == 1; /* the parent's view */
}

static void *map_often(void *argument)
{
    long bad = 0;
    for (int i = 0; i < 100; i++) {
        int fd = i % 2 ? *(int *)argument : device();
        uint32_t *region = map_region(fd);
        bad += region == MAP_FAILED || *region != (uint32_t)identify(fd);
        munmap(region, TEST_MAP_LENGTH);
        if (i % 2 == 0)
            close(fd);
    }
    return (void *)bad;
}

static void test_mappings(void)
{
    enum { BOTH = PROT_READ | PROT_WRITE, LENGTH = TEST_MAP_LENGTH, AT = TEST_MAP_OFFSET };
    static const struct {
        int protection, flags, error;
        size_t length;
        off_t offset;
    } refused[] = {
        {BOTH, MAP_SHARED, ENXIO, LENGTH, 0},
        {BOTH, MAP_SHARED, ENXIO, LENGTH, AT + 4096},
        {BOTH, MAP_SHARED, ENXIO, LENGTH / 2, AT},
        {BOTH, MAP_SHARED, ENXIO, LENGTH + 1, AT},
        {PROT_READ | PROT_EXEC, MAP_SHARED, EPERM, LENGTH, AT},
        {BOTH, MAP_PRIVATE, EINVAL, LENGTH, AT},
        {BOTH, MAP_PRIVATE, EINVAL, LENGTH, 0},
        {BOTH, 0, EINVAL, LENGTH, AT},
        {BOTH, MAP_SHARED | MAP_HUGETLB, EINVAL, LENGTH, AT},
        {BOTH, MAP_SHARED, EINVAL, 0, AT},
        {BOTH, MAP_SHARED, EINVAL, LENGTH, AT + 8},
        {BOTH, MAP_SHARED, ENOMEM, (size_t)-4096, AT},
    };
    int fd = device(), id = identify(fd), before = live(fd);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        CHECK(map(fd, refused[i].protection, refused[i].flags, refused[i].length,
                  refused[i].offset) == MAP_FAILED);
        if (errno != refused[i].error) {
            printf("  refused %zu: %s\n", i, strerror(errno));
            failed = true;
        }
    }
    CHECK(ioctl(fd, TEST_IS_MAPPED) == 0);

    uint32_t *one = map_region(fd), *other = map_region(fd);
    CHECK(one != MAP_FAILED && other != MAP_FAILED && one != other);
    CHECK(one[0] == (uint32_t)id && one[2047] == 0);
    one[2047] = 5;
    CHECK(other[2047] == 5);
    uint32_t *view = map(fd, PROT_READ, MAP_SHARED, LENGTH - 1, AT); /* rounded up */
    CHECK(view != MAP_FAILED && view[2047] == 5);
    munmap(view, LENGTH);
    munmap(other, LENGTH);
    CHECK(ioctl(fd, TEST_IS_MAPPED) == 1);
    munmap(one, 4096);
    CHECK(ioctl(fd, TEST_IS_MAPPED) == 1); /* one page of two */
    munmap(one + 1024, 4096);
    CHECK(ioctl(fd, TEST_IS_MAPPED) == 0);

    /* Where the program says; and moved from there. */
    void *place = mmap(NULL, 4 * LENGTH, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    one = mmap(place, LENGTH, BOTH, MAP_SHARED | MAP_FIXED, fd, AT);
    CHECK(one == place && one[2047] == 5);
    other = mremap(one, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, (char *)place + LENGTH);
    CHECK(other != MAP_FAILED && other[2047] == 5 && ioctl(fd, TEST_IS_MAPPED) == 1);
    munmap(place, 4 * LENGTH);

    /* What is mapped keeps the open file, as in the kernel. */
    int second = device();
    other = map_region(second);
    close(second);
    CHECK(other[0] == (uint32_t)(id + 1) && live(fd) == before + 1);
    munmap(other, LENGTH);
    CHECK(live(fd) == before);

    /* A new region there has nothing of the old one's. */
    CHECK(ioctl(fd, TEST_RENEW_REGION) == 0);
    one = map_region(fd);
    CHECK(one[0] == (uint32_t)id && one[2047] == 0);

    inherited = one;
    pid_t child = fork();
    if (child == 0)
        _exit(!mapped_in_child(fd));
    while (((volatile uint32_t *)one)[1] != 78)
        usleep(1000);
    one[2] = 1;
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(status == 0 && ioctl(fd, TEST_IS_MAPPED) == 1);
    munmap(one, LENGTH);
    CHECK(ioctl(fd, TEST_IS_MAPPED) == 0);

    /* What the program does to its own descriptor. */
    CHECK_ERRNO(ftruncate(fd, 0), EPERM);
    CHECK_ERRNO(read(fd, &id, 4), EINVAL);
    CHECK_ERRNO(write(fd, &id, 4), EINVAL);
    fallocate(fd, 3 /* FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE */, AT, LENGTH);
    one = map_region(fd);
    CHECK(one != MAP_FAILED && one[0] == 0); /* its own doing */
    munmap(one, LENGTH);
    CHECK(ioctl(fd, TEST_POKE, (long)fd) != 1); /* a device gets no copy of a device */
    CHECK(live(fd) == before);

    pthread_t threads[4];
    CHECK(ioctl(fd, TEST_RENEW_REGION) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, map_often, &fd) == 0);
    for (int i = 0; i < 4; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        CHECK(bad == NULL);
    }
    CHECK(live(fd) == before && ioctl(fd, TEST_IS_MAPPED) == 0);
    close(fd);
}

/* ---- queues ----------------------------------------------------------------------------- */

static short events(int fd)
{
    struct pollfd poll_ = {fd, POLLIN | POLLOUT | POLLRDNORM, 0};
    return poll(&poll_, 1, 0) < 0 ? -1 : poll_.revents;
}

static int push(int fd, struct test_queue *queue, uint32_t value)
{
    struct test_push request = {queue->id, value};
    return ioctl(fd, TEST_PUSH, &request);
}

static bool queue_in_child(int queue)
{
    uint32_t record = 0;
    return read(queue, &record, 4) == 4 && record == 77 && read(queue, &record, 4) == 0;
}

static void test_queue(void)
{
    int fd = device(), before = live(fd);
    struct test_queue queue = {.flags = 1}, quiet = {0};
    uint32_t records[4] = {0};
    CHECK(ioctl(fd, TEST_MAKE_QUEUE, &queue) == 0 && queue.fd >= 960);
    CHECK(fcntl(queue.fd, F_GETFD) == FD_CLOEXEC && fcntl(queue.fd, F_GETFL) == O_RDWR);
    CHECK(ioctl(fd, TEST_IDENTIFY_OTHER, (long)queue.fd) == TEST_A_QUEUE);
    CHECK_ERRNO(ioctl(queue.fd, TEST_NULL), ENOTTY);
    CHECK(read(queue.fd, records, 4) == 0); /* empty: no wait, no EAGAIN */
    CHECK(events(queue.fd) == POLLOUT);

    CHECK(push(fd, &queue, 11) == 0 && push(fd, &queue, 12) == 0 && push(fd, &queue, 13) == 0);
    CHECK(events(queue.fd) == (POLLIN | POLLRDNORM | POLLOUT));
    CHECK(read(queue.fd, records, 8) == 8 && records[0] == 11 && records[1] == 12);
    CHECK(events(queue.fd) == (POLLIN | POLLRDNORM | POLLOUT)); /* one is left */
    fd_set set;
    FD_ZERO(&set);
    FD_SET(queue.fd, &set);
    CHECK(select(queue.fd + 1, &set, NULL, NULL, &(struct timeval){0}) == 1);
    CHECK(read(queue.fd, records, 16) == 4 && records[0] == 13);
    CHECK(events(queue.fd) == POLLOUT && read(queue.fd, records, 16) == 0);
    struct iovec vector[2] = {{&records[0], 4}, {&records[2], 4}};
    CHECK(push(fd, &queue, 21) == 0 && push(fd, &queue, 22) == 0);
    CHECK(readv(queue.fd, vector, 2) == 8 && records[0] == 21 && records[2] == 22);

    int written = ioctl(fd, TEST_WRITTEN);
    uint32_t value = 5;
    CHECK(write(queue.fd, &value, 4) == 4 && ioctl(fd, TEST_WRITTEN) == written + 5);
    CHECK_ERRNO(write(queue.fd, &value, 3), ESPIPE);
    CHECK_ERRNO(read(queue.fd, &value, 3), ESPIPE);
    CHECK_ERRNO(pread(queue.fd, &value, 4, 0), ESPIPE);
    CHECK_ERRNO(lseek(queue.fd, 0, SEEK_SET), ESPIPE);

    CHECK(ioctl(fd, TEST_MAKE_QUEUE, &quiet) == 0 && quiet.fd == queue.fd + 1);
    CHECK(events(quiet.fd) == 0); /* never writable */
    CHECK_ERRNO(write(quiet.fd, &value, 4), EINVAL);
    CHECK(push(fd, &quiet, 31) == 0 && events(quiet.fd) == (POLLIN | POLLRDNORM));
    CHECK(read(quiet.fd, &value, 4) == 4 && events(quiet.fd) == 0);

    /* Another number, another process, the same queue. */
    CHECK(push(fd, &queue, 77) == 0 && in_child(queue_in_child, queue.fd));
    CHECK(events(queue.fd) == POLLOUT);
    int high = fcntl(queue.fd, F_DUPFD, 1000), low = dup(queue.fd);
    CHECK(high >= 1000 && low < 960);
    CHECK(push(fd, &queue, 41) == 0 && read(high, &value, 4) == 4 && value == 41);
    errno = 0;
    CHECK(read(low, &value, 4) == -1 && errno == EAGAIN); /* soon, and no byte */
    CHECK(live(fd) == before + 2);
    close(queue.fd);
    close(high);
    CHECK(live(fd) == before + 2);
    close(low);
    CHECK(live(fd) == before + 1);
    close(quiet.fd);
    CHECK(live(fd) == before);
    close(fd);
}

static void test_epoll(void)
{
    int fd = device();
    struct test_queue queue = {0};
    CHECK(ioctl(fd, TEST_MAKE_QUEUE, &queue) == 0);
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, queue.fd, &event) == 0);
    CHECK(epoll_wait(epoll, &event, 1, 0) == 0);
    CHECK(push(fd, &queue, 1) == 0 && epoll_wait(epoll, &event, 1, 1000) == 1);
    CHECK(epoll_wait(epoll, &event, 1, 0) == 0);
    CHECK(push(fd, &queue, 2) == 0 && epoll_wait(epoll, &event, 1, 1000) == 1); /* a second edge */
    uint32_t records[2];
    CHECK(read(queue.fd, records, 8) == 8 && epoll_wait(epoll, &event, 1, 0) == 0);
    for (int i = 0; i < 100; i++) { /* more wake-ups than the socket has room for */
        CHECK(push(fd, &queue, i) == 0);
    }
    for (int i = 0; i < 50; i++)
        CHECK(read(queue.fd, records, 8) == 8);
    CHECK(events(queue.fd) == 0);
    close(epoll);
    close(queue.fd);
    close(fd);
}

static void test_queue_limits(void)
{
    int fd = device(), before = live(fd), queues[64];
    struct test_queue *unwritable =
        mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_ERRNO(ioctl(fd, TEST_MAKE_QUEUE, unwritable), EFAULT);
    CHECK(live(fd) == before && fcntl(960, F_GETFD) == -1); /* nothing came of it */
    munmap(unwritable, 4096);
    struct rlimit limit, small = {0};
    getrlimit(RLIMIT_NOFILE, &limit);
    CHECK(limit.rlim_cur >= 1024);
    small = (struct rlimit){1024, limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &small);
    struct test_queue queue = {0};
    for (int i = 0; i < 64; i++) {
        CHECK(ioctl(fd, TEST_MAKE_QUEUE, &queue) == 0 && queue.fd == 960 + i);
        queues[i] = queue.fd;
    }
    CHECK_ERRNO(ioctl(fd, TEST_MAKE_QUEUE, &queue), EMFILE);
    close(queues[10]);
    CHECK(ioctl(fd, TEST_MAKE_QUEUE, &queue) == 0 && queue.fd == 970);
    for (int i = 0; i < 64; i++)
        close(queues[i]);
    small.rlim_cur = 900;
    setrlimit(RLIMIT_NOFILE, &small);
    CHECK_ERRNO(ioctl(fd, TEST_MAKE_QUEUE, &queue), EMFILE);
    setrlimit(RLIMIT_NOFILE, &limit);
    CHECK(live(fd) == before);
    close(fd);
}

/* ---- threads and signals ---------------------------------------------------------------- */

static void *count_often(void *argument)
{
    int fd = device(), id = identify(fd);
    long bad = 0;
    for (int i = 0; i < 300; i++) {
        int other = device();
        bad += other < 0 || identify(fd) != id || identify(other) == id;
        close(other);
        bad += ioctl(*(int *)argument, TEST_COUNT, 0) <= 0;
    }
    close(fd);
    return (void *)bad;
}

static void test_threads(void)
{
    pthread_t threads[8];
    int fd = device(), before = live(fd), count = ioctl(fd, TEST_COUNT, 0);
    for (int i = 0; i < 8; i++)
        CHECK(pthread_create(&threads[i], NULL, count_often, &fd) == 0);
    for (int i = 0; i < 8; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        CHECK(bad == NULL);
    }
    CHECK(ioctl(fd, TEST_COUNT, 0) == count + 8 * 300 + 1);
    CHECK(live(fd) == before);
    close(fd);
}

static volatile sig_atomic_t alarms;
static void on_alarm(int signal)
{
    (void)signal;
    alarms++;
}

static void test_signals(void)
{
    int fd = device();
    for (int restart = 0; restart < 2; restart++) {
        struct sigaction action = {.sa_handler = on_alarm, .sa_flags = restart ? SA_RESTART : 0};
        sigaction(SIGALRM, &action, NULL);
        struct itimerval timer = {{0, 1000}, {0, 1000}};
        int begin = ioctl(fd, TEST_COUNT, 0), interrupted = 0, bad = 0;
        alarms = 0;
        setitimer(ITIMER_REAL, &timer, NULL);
        for (int i = 0; i < 100; i++)
            if (ioctl(fd, TEST_COUNT, 2000L) < 0)
                *(errno == EINTR ? &interrupted : &bad) += 1;
        setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
        /*
         * Each call took effect once. One that a signal met before the supervisor had it may end
         * with EINTR, without effect, where the handler does not ask for a restart.
         */
        CHECK(bad == 0 && interrupted <= (restart ? 0 : 20));
        int effects = ioctl(fd, TEST_COUNT, 0) - begin - 1;
        CHECK(effects == 100 - interrupted);
        if (effects != 100 - interrupted)
            printf("  %d effects, %d interrupted, %d failed\n", effects, interrupted, bad);
        if (interrupted)
            printf("  %d of 100 interrupted before they began\n", interrupted);
        CHECK(alarms > 50);
    }
    signal(SIGALRM, SIG_DFL);
    close(fd);
}

/* ---- for kill -9 ------------------------------------------------------------------------ */

static void *storm_thread(void *unused)
{
    int fd = device();
    struct test_exchange exchange = {0};
    for (;;) {
        int other = open(VFIO, O_RDWR);
        struct test_queue queue = {.flags = 1};
        ioctl(other, TEST_EXCHANGE, &exchange);
        if (ioctl(other, TEST_MAKE_QUEUE, &queue) == 0) {
            uint32_t record;
            push(fd, &queue, 1);
            if (read(queue.fd, &record, 4) < 0)
                continue;
            close(queue.fd);
        }
        ioctl(fd, TEST_COUNT, 50L);
        close(other);
    }
    return unused;
}

static void storm(void)
{
    pthread_t thread;
    if (fork() == 0)
        storm_thread(NULL);
    for (int i = 0; i < 3; i++)
        pthread_create(&thread, NULL, storm_thread, NULL);
    storm_thread(NULL);
}

/* ---- without a supervisor --------------------------------------------------------------- */

static void orphan(void)
{
    int fd = device();
    CHECK(identify(fd) > 0);
    kill(getppid(), SIGKILL);
    for (int i = 0; i < 1000 && identify(fd) > 0; i++)
        usleep(1000);
    CHECK_ERRNO(identify(fd), ENOSYS);
    CHECK_ERRNO(open(IOMMU, O_RDWR), ENOSYS);
    CHECK(open("/etc/passwd", O_RDONLY) >= 0 && close(fd) == 0);
    printf("%s orphan\n", failed ? "FAILED" : "ok");
    _exit(failed);
}

/* ----------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    {"identity", test_identity}, {"release", test_release}, {"paths", test_paths},
    {"status", test_status},     {"memory", test_memory},   {"offsets", test_offsets},
    {"mappings", test_mappings},
    {"queue", test_queue},       {"epoll", test_epoll},     {"queue_limits", test_queue_limits},
    {"threads", test_threads},   {"signals", test_signals},
};

int main(int argc, char **argv)
{
    int status = 0;
    self = argv[0];
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 4 && strcmp(argv[1], "check-id") == 0)
        return identify(atoi(argv[2])) != atoi(argv[3]);
    if (argc == 2 && strcmp(argv[1], "storm") == 0)
        storm();
    if (argc == 2 && strcmp(argv[1], "orphan") == 0)
        orphan();
    if (argc == 2 && strcmp(argv[1], "live") == 0)
        return printf("%d\n", live(device()) - 1) < 0;
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        bool wanted = argc < 2;
        for (int j = 1; j < argc; j++)
            wanted |= strcmp(argv[j], tests[i].name) == 0;
        if (!wanted)
            continue;
        failed = false;
        tests[i].run();
        printf("%s %s\n", failed ? "FAILED" : "ok", tests[i].name);
        status |= failed;
    }
    return status;
}

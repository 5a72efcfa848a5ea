/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors that the server installs in its client, and poll, epoll and read on them. */
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "lib/client.h"

static unsigned long long queues(int fd)
{
    struct cuse_test argument = {.size = sizeof(argument)};

    ioctl(fd, CUSE_TEST_ALIVE, &argument);
    return argument.length;
}

/** Checks the number of queues after a call that has failed. */
static void check_queues(int fd, unsigned long long expected, int line)
{
    unsigned long long left = queues(fd);

    check(left == expected, "line %d: %llu queues, not %llu", line, left, expected);
}

static int ready(int fd, int timeout)
{
    struct pollfd entry = {fd, POLLIN, 0};

    poll(&entry, 1, timeout);
    return entry.revents;
}

static void *push_later(void *argument)
{
    usleep(50000);
    request(*(int *)argument, CUSE_TEST_PUSH, 1);
    return NULL;
}

static void ordinary(int fd)
{
    unsigned long long records[64];
    int lowest = dup(fd), queue;

    close(lowest);
    queue = request(fd, CUSE_TEST_QUEUE, 0);
    check(queue == lowest, "queue got descriptor %d, not the lowest free %d", queue, lowest);
    CHECK(fcntl(queue, F_GETFD) == FD_CLOEXEC);
    CHECK((fcntl(queue, F_GETFL) & O_ACCMODE) == O_RDWR);
    CHECK(read(queue, records, 32) == 0);
    CHECK(ready(queue, 0) == 0);
    CHECK(request(fd, CUSE_TEST_PUSH, 3) == 3);
    CHECK(ready(queue, 0) == POLLIN);
    CHECK_ERRNO(read(queue, records, 24), EINVAL);
    CHECK(read(queue, records, 32) == 32 && records[0] == 0 && records[2] == 1);
    CHECK(read(queue, records, 32) == 16 && records[0] == 2);
    CHECK(read(queue, records, 32) == 0);

    /* A push by another thread wakes poll(). */
    pthread_t thread;
    pthread_create(&thread, NULL, push_later, &fd);
    CHECK(ready(queue, 10000) == POLLIN);
    pthread_join(thread, NULL);

    /* edge-triggered: a second edge without a read before it */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int set = epoll_create1(0);
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, queue, &event) == 0);
    CHECK(epoll_wait(set, &event, 1, 1000) == 1);
    CHECK(epoll_wait(set, &event, 1, 0) == 0);
    request(fd, CUSE_TEST_PUSH, 1);
    CHECK(epoll_wait(set, &event, 1, 10000) == 1);
    close(set);
    CHECK(read(queue, records, 512) == 32);

    /* more than 128 KiB of records in one read */
    request(fd, CUSE_TEST_PUSH, 20000);
    unsigned long long *many = malloc(320000);
    CHECK(read(queue, many, 320000) == 320000);
    CHECK(many[2 * 19999] == many[0] + 19999);
    free(many);
    check_queues(fd, 1, __LINE__);
    close(queue);
    request(fd, CUSE_TEST_ECHO, 0);
}

static void refused(int fd)
{
    char path[128];
    struct cuse_test *readonly = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int lowest = dup(fd);

    close(lowest);
    unsigned long long before = queues(fd);

    /* A client cannot open the queue node by itself. */
    snprintf(path, sizeof(path), "%s-q", node_path());
    CHECK_ERRNO(open(path, O_RDWR), ENXIO);

    /* When the answer cannot be stored, no file descriptor is left. */
    readonly->size = sizeof(*readonly);
    mprotect(readonly, 4096, PROT_READ);
    CHECK_ERRNO(ioctl(fd, CUSE_TEST_QUEUE, readonly), EFAULT);
    int next = dup(fd);
    check(next == lowest, "a descriptor was left: next is %d, not %d", next, lowest);
    close(next);

    /* no free number */
    struct rlimit limit, old;
    getrlimit(RLIMIT_NOFILE, &old);
    limit = (struct rlimit){lowest, old.rlim_max};
    setrlimit(RLIMIT_NOFILE, &limit);
    CHECK_ERRNO(request(fd, CUSE_TEST_QUEUE, 0), EMFILE);
    setrlimit(RLIMIT_NOFILE, &old);
    check_queues(fd, before, __LINE__);

    /* a client that is traced by a debugger */
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        _exit(request(fd, CUSE_TEST_QUEUE, 0) == -1 && errno == EBUSY ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    ptrace(PTRACE_CONT, child, 0, 0);
    waitpid(child, &status, 0);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "under a debugger: status %x", status);
}

/** A client in another root directory: the queue comes over a socket. */
static void test_other_root(int fd)
{
    pid_t child = fork();

    if (child == 0) {
        struct cuse_test argument = {.size = sizeof(argument)};
        unsigned long long record[2];

        if (chroot("/proc/self/fdinfo") || ioctl(fd, CUSE_TEST_QUEUE, &argument))
            _exit(1);
        request(fd, CUSE_TEST_PUSH, 1);
        if (read(argument.value, record, 16) != 16)
            _exit(2);
        if (fcntl(argument.value, F_GETFD) != FD_CLOEXEC)
            _exit(3);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    check(status == 0, "in a chroot: status %x", status);

    /* a client with another user ID, without permission to access the server's process */
    child = fork();
    if (child == 0) {
        if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
            _exit(9);
        int queue = request(fd, CUSE_TEST_QUEUE, 0);
        _exit(queue < 0 ? errno : 0);
    }
    waitpid(child, &status, 0);
    check(status == 0, "as another user: status %x", status);

    /* a client that is not dumpable, as after setuid */
    prctl(PR_SET_DUMPABLE, 0);
    int queue = request(fd, CUSE_TEST_QUEUE, 0);
    CHECK(queue >= 0);
    close(queue);
    prctl(PR_SET_DUMPABLE, 1);
}

int main(void)
{
    int fd = open_node();

    ordinary(fd);
    refused(fd);
    test_other_root(fd);
    return print_totals("queue");
}

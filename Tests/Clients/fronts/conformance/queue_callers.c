/* SPDX-License-Identifier: Apache-2.0 */
/* Clients in which the server cannot, or cannot easily, create the file descriptor of a queue. */
#include "conformance.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>

void test_refused_queue(void)
{
    struct test_argument *readonly = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = open_node(), number = next_queue_number(fd);
    long before = count_open(fd);
    struct rlimit limit, old;

    /* When the answer cannot be stored, no file descriptor and no queue are left. */
    readonly->size = sizeof(*readonly);
    mprotect(readonly, 4096, PROT_READ);
    CHECK_ERRNO(ioctl(fd, TEST_MAKE_QUEUE, readonly), EFAULT);
    CHECK(fcntl(number, F_GETFD) == -1 && next_queue_number(fd) == number);
    CHECK(count_open(fd) == before);
    munmap(readonly, 4096);

    /* no free number */
    getrlimit(RLIMIT_NOFILE, &old);
    limit = (struct rlimit){number, old.rlim_max};
    setrlimit(RLIMIT_NOFILE, &limit);
    CHECK_ERRNO(make_queue(fd, false, NULL), EMFILE);
    setrlimit(RLIMIT_NOFILE, &old);
    CHECK(count_open(fd) == before);
    close(fd);
}

/** A client that is traced by a debugger. */
static void test_traced(int fd)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0))
            _exit(255);
        raise(SIGSTOP);
        _exit(make_queue(fd, false, NULL) < 0 ? errno : 0);
    }
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 255) {
        skipped = "another debugger traces this program";
        return;
    }
    ptrace(PTRACE_CONT, child, 0, 0);
    waitpid(child, &status, 0);
    /*
     * A front end differs: the CUSE server injects open(2) into the client by ptrace(2), and a
     * thread has at most one tracer. The launcher uses SECCOMP_IOCTL_NOTIF_ADDFD.
     */
    int expected = front() == CUSE ? EBUSY : 0;
    check(WIFEXITED(status) && WEXITSTATUS(status) == expected, "under a debugger: status %x",
          status);
}

/** A client in another root directory. Over CUSE the queue comes over a socket. */
static bool queue_in_other_root(int fd)
{
    struct test_record record;
    uint32_t id;

    if (chroot("/proc/self/fdinfo"))
        return false;
    int queue = make_queue(fd, false, &id);
    return queue >= 0 && push(fd, id, 1, 5) == 0 && read(queue, &record, 16) == 16 &&
           record.value == 5 && fcntl(queue, F_GETFD) == FD_CLOEXEC;
}

/** A client with another user ID, without permission to access the server's process. */
static bool queue_of_other_user(int fd)
{
    return setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0 &&
           make_queue(fd, false, NULL) >= 0;
}

/** A client that is not dumpable, as after setuid. */
static bool queue_undumpable(int fd)
{
    return prctl(PR_SET_DUMPABLE, 0) == 0 && make_queue(fd, false, NULL) >= 0;
}

void test_queue_callers(void)
{
    int fd = open_node();
    long before = count_open(fd);

    test_traced(fd);
    if (geteuid() == 0) {
        CHECK(in_child(queue_in_other_root, fd));
        CHECK(in_child(queue_of_other_user, fd));
        CHECK(in_child(queue_undumpable, fd));
    } else {
        skipped = "chroot(2) and setresuid(2) need root";
    }
    CHECK(count_open(fd) == before);
    close(fd);
}

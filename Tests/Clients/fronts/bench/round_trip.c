/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cost of a call under the launcher, compared with a minimal supervisor.
 *
 *   round_trip [--check] SIM     prints nanoseconds per call and the ratio; SIM is iommufd-sim
 *
 * The minimal supervisor knows one client and one file. It receives a call, reads the struct,
 * checks that the client still waits, and answers. Both supervisors run the same client. MAP and
 * UNMAP of private memory are compared with the registration of the same pages as a buffer of
 * io_uring, and its removal, by the client itself. All
 * processes run on one processor and take turns in short rounds, of which the best one counts:
 * other load then disturbs both alike, and mostly neither. With --check the program fails when a
 * ratio exceeds its limit.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "calls.h"
#include "pins.h"
#include "linux/iommufd.h"

#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

enum { ROUNDS = 300 };

/* ---- the client ------------------------------------------------------------------------- */

enum { IOCTL_IN, IOCTL_IN_OUT, OPEN_CLOSE, PIN, PIN_LARGE, KINDS };

static const struct {
    const char *name;
    int calls;
    double limit;
} rows[KINDS] = {
    [IOCTL_IN] = {"launcher: ioctl, struct in", 100, 2.0},
    [IOCTL_IN_OUT] = {"launcher: ioctl, struct in and out", 100, 2.0},
    [OPEN_CLOSE] = {"launcher: open and close", 20, 3.0},
    [PIN] = {"launcher: MAP, UNMAP of 4 KiB", 20, 85.0},
    [PIN_LARGE] = {"launcher: MAP, UNMAP of 16 MiB", 2, 1.5},
};

static void call(int kind, int fd)
{
    if (kind == OPEN_CLOSE)
        close(open_node("/dev/iommu"));
    else if (kind == IOCTL_IN)
        destroy_nothing(fd);
    else if (kind == IOCTL_IN_OUT)
        get_option(fd);
    else
        pin_and_unpin(fd, kind == PIN ? 4096 : PINNED_SIZE);
}

/**
 * Runs a round for each byte that it reads, the kind of the round, and writes the nanoseconds of a
 * call.
 */
static void serve_rounds(int channel, int is_floor)
{
    char kind;
    int fd = open_node("/dev/iommu");

    prepare_pins(is_floor ? -1 : fd);

    while (read(channel, &kind, 1) == 1) {
        double start = now();

        for (int i = 0; i < rows[(int)kind].calls; i++)
            call(kind, fd);
        double nanoseconds = (now() - start) / rows[(int)kind].calls;
        if (write(channel, &nanoseconds, sizeof nanoseconds) != sizeof nanoseconds)
            break;
    }
    _exit(0);
}

/* ---- the minimal supervisor ------------------------------------------------------------- */

static int install_filter(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff00),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x3b00, 3, 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_RDWR, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                   SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
                   &program);
}

static ssize_t copy_memory(int op, pid_t task, void *local, uint64_t remote, size_t count)
{
    struct iovec here = {local, count}, there = {(void *)remote, count};

    return syscall(op, task, &here, 1, &there, 1, 0);
}

static int64_t answer_open(int listener, const struct seccomp_notif *notif)
{
    char path[64] = "";
    struct seccomp_notif_addfd add = {.id = notif->id, .newfd_flags = O_CLOEXEC};

    copy_memory(SYS_process_vm_readv, notif->pid, path, notif->data.args[1], sizeof "/dev/iommu");
    if (strcmp(path, "/dev/iommu") || ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &notif->id))
        return -ENOENT;
    add.srcfd = syscall(SYS_memfd_create, path, MFD_CLOEXEC);
    int number = ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);

    close(add.srcfd);
    return number;
}

static int64_t answer_ioctl(int listener, const struct seccomp_notif *notif)
{
    union {
        uint32_t size;
        struct iommu_destroy destroy;
        struct iommu_option option;
    } body;
    int gets = notif->data.args[1] == IOMMU_OPTION;
    size_t size = gets ? sizeof body.option : sizeof body.destroy;

    if (copy_memory(SYS_process_vm_readv, notif->pid, &body, notif->data.args[2], size) != (ssize_t)size)
        return -EFAULT;
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &notif->id))
        return -ESRCH;
    if (!gets)
        return -ENOENT;
    body.option.val64 = 0;
    copy_memory(SYS_process_vm_writev, notif->pid, &body, notif->data.args[2], size);
    return 0;
}

static void supervise(int listener)
{
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
    for (;;) {
        struct seccomp_notif notif = {0};
        struct seccomp_notif_resp answer = {0};

        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notif)) {
            if (errno == EINTR)
                continue;
            _exit(0);
        }
        int64_t result = notif.data.nr == SYS_ioctl ? answer_ioctl(listener, &notif)
                                                    : answer_open(listener, &notif);
        answer.id = notif.id;
        *(result < 0 ? &answer.error : (int32_t *)&answer.val) = result;
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
}

/** Forks a client that serves rounds on `channel`, and supervises it. */
static void run_floor(int channel)
{
    int numbers[2], number;

    if (pipe(numbers))
        err(1, "pipe");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pid_t client = fork();
    if (client == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        number = install_filter();
        if (write(numbers[1], &number, sizeof number) != sizeof number)
            _exit(1);
        serve_rounds(channel, 1);
    }
    close(channel);
    if (read(numbers[0], &number, sizeof number) != sizeof number || number < 0)
        errx(1, "no filter");
    int pidfd = syscall(SYS_pidfd_open, client, 0);
    int listener = syscall(SYS_pidfd_getfd, pidfd, number, 0);
    if (listener < 0)
        err(1, "listener");
    supervise(listener);
}

/* ---- the comparison --------------------------------------------------------------------- */

static double time_round(int channel, char kind)
{
    double nanoseconds;

    if (write(channel, &kind, 1) != 1 ||
        read(channel, &nanoseconds, sizeof nanoseconds) != sizeof nanoseconds)
        errx(1, "a client has ended");
    return nanoseconds;
}

static int start(char *self, char *sim)
{
    int pair[2];
    char channel[16];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        err(1, "socketpair");
    pid_t child = fork();
    if (child < 0)
        err(1, "fork");
    if (child == 0) {
        close(pair[0]);
        if (!sim)
            run_floor(pair[1]);
        snprintf(channel, sizeof channel, "%d", pair[1]);
        execl(sim, sim, "run", "--", self, "--client", channel, (char *)NULL);
        err(1, "%s", sim);
    }
    close(pair[1]);
    fcntl(pair[0], F_SETFD, FD_CLOEXEC);
    return pair[0];
}

static void use_one_processor(void)
{
    cpu_set_t allowed, one;

    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof allowed, &allowed))
        err(1, "sched_getaffinity");
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed)) {
            CPU_SET(cpu, &one);
            break;
        }
    if (sched_setaffinity(0, sizeof one, &one))
        err(1, "sched_setaffinity");
}

int main(int count, char **arguments)
{
    int check = count > 1 && !strcmp(arguments[1], "--check"), over = 0;

    if (count == 3 && !strcmp(arguments[1], "--client"))
        serve_rounds(atoi(arguments[2]), 0);
    if (count != 2 + check)
        errx(2, "usage: round_trip [--check] SIM");
    use_one_processor();
    int floor = start(arguments[0], NULL), ours = start(arguments[0], arguments[1 + check]);

    print_header();
    for (int kind = 0; kind < KINDS; kind++) {
        double best[2] = {0};

        for (int round = 0; round < ROUNDS; round++) {
            keep_best(&best[0], time_round(floor, kind));
            keep_best(&best[1], time_round(ours, kind));
        }
        over |= print_row(rows[kind].name, best, rows[kind].limit);
    }
    close(floor);
    close(ours);
    while (wait(NULL) > 0) {
    }
    return check && over;
}

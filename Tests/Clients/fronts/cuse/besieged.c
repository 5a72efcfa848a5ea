/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kills servers at random moments, most of them under load. Checks that the server ends, that its
 * clients get one of the expected errnos and can go on, and that the next server works.
 *
 *   besieged [--iommufd] ROUNDS SEED PIDFILE SERVER ARGUMENT...
 *
 * A server writes PIDFILE when it is ready. It serves the test device, or with --iommufd an iommufd
 * and VFIO devices.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <linux/iommufd.h>
#include <linux/vfio.h>

#include "../lib/front_client.h"

enum { CLIENTS = 4, PATIENCE_MS = 20000 };

static int device;
static volatile sig_atomic_t alarms;

static void count_alarm(int number)
{
    (void)number;
    alarms++;
}

/**
 * Returns whether a call on a killed server may fail with this errno. An open may find that the
 * node is gone, also the open of the queue node that the server makes its client do.
 */
static int is_clean(int number)
{
    return number == ECONNABORTED || number == ENOTCONN || number == ENOENT || number == ENXIO ||
           number == ENODEV;
}

/**
 * The calls that threads make on one kind of server. They return 0 when the server is gone, else 1.
 */
struct workload {
    /** Issues a request with a struct that is read and written. */
    int (*exchange)(void);
    /** Lets the server create a file descriptor. */
    int (*queue_and_close)(void);
    /** Lets the server identify and keep a file descriptor. */
    int (*identify_and_keep)(unsigned thread);
};
static const struct workload *workload;

/** Issues a request. Returns 0 when the server is gone. */
static int call(int fd, unsigned long command, void *argument)
{
    int result = ioctl(fd, command, argument);

    if (result < 0) {
        check(is_clean(errno), "command %lx: errno %d (%s)", command, errno, strerror(errno));
        return 0;
    }
    check(result == 0, "command %lx returned %d", command, result);
    return 1;
}

static void read_and_close(__u32 queue, void *record, size_t size)
{
    check(queue > 2 && fcntl(queue, F_GETFD) == FD_CLOEXEC, "queue %u", queue);
    ssize_t count = read(queue, record, size);
    check(count == 0 || is_clean(errno), "read: %zd, errno %d", count, errno);
    close(queue);
}

static int open_while_served(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    check(fd >= 0 || is_clean(errno), "open of %s: errno %d", path, errno);
    return fd;
}

/* ---- the test device -------------------------------------------------------------------- */

static int call_test(unsigned long command, __u32 value, __u32 *answer)
{
    struct test_argument argument = {.size = sizeof(argument), .value = value};

    if (!call(device, command, &argument))
        return 0;
    *answer = argument.value;
    return 1;
}

static int test_exchange(void)
{
    __u32 answer;

    return call_test(TEST_ECHO, 5, &answer);
}

static int test_queue_and_close(void)
{
    struct test_record record;
    __u32 queue = 0;

    if (!call_test(TEST_MAKE_QUEUE, 0, &queue))
        return 0;
    read_and_close(queue, &record, sizeof(record));
    return 1;
}

static int test_identify_and_keep(unsigned thread)
{
    __u32 answer;
    int other = open_while_served(node_path());

    (void)thread;
    if (other < 0)
        return 0;
    int goes_on =
        call_test(TEST_IDENTIFY, other, &answer) && call_test(TEST_KEEP, other, &answer);
    close(other);
    return goes_on;
}

static const struct workload test_device = {test_exchange, test_queue_and_close,
                                             test_identify_and_keep};

/* ---- an iommufd ------------------------------------------------------------------------- */

static int iommufd_exchange(void)
{
    struct iommu_option option = {.size = sizeof(option),
                                  .option_id = IOMMU_OPTION_RLIMIT_MODE,
                                  .op = IOMMU_OPTION_OP_GET,
                                  .val64 = 7};

    if (!call(device, IOMMU_OPTION, &option))
        return 0;
    check(option.val64 == 0, "option %llu", (unsigned long long)option.val64);
    return 1;
}

static int iommufd_queue_and_close(void)
{
    struct iommu_fault_alloc queue = {.size = sizeof(queue)};
    struct iommu_hwpt_pgfault record;

    if (!call(device, IOMMU_FAULT_QUEUE_ALLOC, &queue))
        return 0;
    read_and_close(queue.out_fault_fd, &record, sizeof(record));
    struct iommu_destroy destroy = {.size = sizeof(destroy), .id = queue.out_fault_id};
    return call(device, IOMMU_DESTROY, &destroy);
}

/** Each thread binds another VFIO device. */
static int iommufd_identify_and_keep(unsigned thread)
{
    struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = device};
    char path[64];

    snprintf(path, sizeof(path), "/dev/vfio-sim/devices/vfio%u", thread);
    int vfio = open_while_served(path);
    if (vfio < 0)
        return 0;
    int goes_on = call(vfio, VFIO_DEVICE_BIND_IOMMUFD, &bind);
    close(vfio);
    return goes_on;
}

static const struct workload iommufd = {iommufd_exchange, iommufd_queue_and_close,
                                         iommufd_identify_and_keep};

/* ---- clients ---------------------------------------------------------------------------- */

struct thread {
    unsigned number, seed;
};

static void *mix_calls(void *argument)
{
    struct thread *thread = argument;
    int goes_on = 1;

    while (goes_on)
        switch (rand_r(&thread->seed) % 4) {
        case 0:
            goes_on = workload->identify_and_keep(thread->number);
            break;
        case 1:
            goes_on = workload->exchange();
            break;
        default:
            goes_on = workload->queue_and_close();
        }
    return NULL;
}

static void check_signal_mask(const char *when)
{
    sigset_t mask;

    sigprocmask(SIG_BLOCK, NULL, &mask);
    for (int number = 1; number < 32; number++)
        check(!sigismember(&mask, number), "%s: signal %d is blocked", when, number);
}

/** Issues calls until the server is gone. Returns the exit status. */
static int run_client(unsigned kind, unsigned seed)
{
    struct itimerval every = {{0, 1000}, {0, 1000}};
    struct thread both[2] = {{2 * kind, seed}, {2 * kind + 1, seed + 1}};
    pthread_t thread;

    checks = failures = 0;
    if (kind == 1) { /* outside the server's file system: queues come over a socket */
        if (chroot("/proc/self/fdinfo"))
            return 3;
        while (workload->queue_and_close())
            ;
    } else if (kind == 2) { /* with a timer signal every millisecond */
        signal(SIGALRM, count_alarm);
        setitimer(ITIMER_REAL, &every, NULL);
        while (workload->queue_and_close())
            ;
        int before = alarms;
        for (int i = 0; i < 1000 && alarms == before; i++)
            usleep(1000);
        check(alarms > before, "no signal arrives any more");
        setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    } else {
        pthread_create(&thread, NULL, mix_calls, &both[1]);
        mix_calls(&both[0]);
        pthread_join(thread, NULL);
    }
    check_signal_mask("after the server's end");
    check(!workload->exchange(), "a call on a dead server");
    fflush(stdout);
    return failures ? 1 : 0;
}

static int reaped(pid_t child, int *status)
{
    for (int waited = 0; waited < PATIENCE_MS; waited += 5) {
        if (waitpid(child, status, WNOHANG) == child)
            return 1;
        usleep(5000);
    }
    return 0;
}

static int appears(const char *path)
{
    struct stat status;

    for (int waited = 0; waited < PATIENCE_MS; waited += 5) {
        if (stat(path, &status) == 0 && status.st_size > 0)
            return 1;
        usleep(5000);
    }
    return 0;
}

static pid_t serve(char **command, const char *pid_file)
{
    unlink(pid_file);
    pid_t server = fork();
    if (server == 0) {
        execv(command[0], command);
        _exit(127);
    }
    return server;
}

/** Starts a server, kills it, and checks its clients. Returns 0 when a process cannot be reaped. */
static int siege(int round, unsigned *seed, char **command, const char *pid_file)
{
    pid_t clients[CLIENTS];
    int started = 0, status, goes_on;
    pid_t server = serve(command, pid_file);

    if (round % 5 == 4) { /* while the server starts */
        usleep(rand_r(seed) % 400000);
    } else {
        check(appears(pid_file), "round %d: the server is not ready", round);
        device = open_node();
        for (; started < CLIENTS; started++) {
            unsigned start = rand_r(seed);
            clients[started] = fork();
            if (clients[started] == 0)
                _exit(run_client(started, start));
        }
        usleep(rand_r(seed) % 150000);
    }
    kill(server, SIGKILL);
    goes_on = reaped(server, &status);
    check(goes_on, "round %d: the server %d cannot be reaped", round, server);
    for (int i = 0; i < started; i++) {
        int ended = reaped(clients[i], &status);
        check(ended && status == 0, "round %d: client %d: %s %x", round, i,
              ended ? "status" : "cannot be reaped", status);
        goes_on &= ended;
    }
    if (started)
        close(device);
    for (int i = 0; i < 2000 && access(node_path(), F_OK) == 0; i++)
        usleep(5000);
    check(access(node_path(), F_OK) == -1, "round %d: the node is left", round);
    return goes_on;
}

int main(int argc, char **argv)
{
    workload = &test_device;
    if (argc > 1 && !strcmp(argv[1], "--iommufd")) {
        workload = &iommufd;
        argc--;
        argv++;
    }
    if (argc < 5)
        return 64;
    unsigned seed = atoi(argv[2]);
    for (int round = 0; round < atoi(argv[1]); round++)
        if (!siege(round, &seed, argv + 4, argv[3]))
            break;
    return print_totals("besieged");
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cost of system calls in nanoseconds, natively or under the launcher.
 *
 *   launcher_cost [REPETITIONS]     prints lines "NAME BEST MEDIAN" of 99 rounds
 *
 * On a busy machine only the best round is meaningful.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../lib/test_requests.h"

static int device = -1, regions = -1, file, null, queue = -1;
static char page[4096];
static struct test_exchange exchange;

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

static long use; /* uses the results of the calls */

static void null_ioctl(void) { use += ioctl(device, TEST_NULL); }
static void exchange_ioctl(void) { use += ioctl(device, TEST_EXCHANGE, &exchange); }
static void open_device(void) { close_fd(open("/dev/iommu", O_RDWR)); }
static void region_read(void) { use += pread(regions, page, 8, TEST_REGION(0)); }
static void queue_read(void) { use += read(queue, page, 16); }
static void get_ppid(void) { use += syscall(SYS_getppid); }
static void other_ioctl(void) { use += ioctl(null, 0x5401, page); }
static void vfio_ioctl_elsewhere(void) { use += ioctl(null, 0x3b71); }
static void read_byte(void) { use += pread(file, page, 1, 0); }
static void write_byte(void) { use += pwrite(file, page, 1, 0); }
static void plain_read(void) { use += read(null, page, 1); }
static void open_read_only(void) { close_fd(open("/etc/passwd", O_RDONLY)); }
static void open_read_write(void) { close_fd(open("/dev/null", O_RDWR)); }
static void open_create(void) { close_fd(open("/dev/null", O_WRONLY | O_CREAT, 0600)); }
static void stat_path(void)
{
    struct stat status;
    use += stat("/etc/passwd", &status);
}
static void fstat_file(void)
{
    struct stat status;
    use += fstat(file, &status);
}
static void access_path(void) { use += access("/etc/passwd", R_OK); }
static void map_anonymous(void)
{
    munmap(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
}
static void map_shared(void) { munmap(mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0), 4096); }
static void fork_exit(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
}

static const struct {
    const char *name;
    void (*call)(void);
    int divisor;
    int needs_device;
} costs[] = {
    {"ioctl", null_ioctl, 1, 1},
    {"ioctl-48-16", exchange_ioctl, 1, 1},
    {"open-close", open_device, 1, 1},
    {"region-pread", region_read, 1, 1},
    {"queue-read", queue_read, 1, 1},
    {"getppid", get_ppid, 1, 0},
    {"foreign-ioctl", other_ioctl, 1, 0},
    {"foreign-vfio-ioctl", vfio_ioctl_elsewhere, 1, 0},
    {"foreign-pread", read_byte, 1, 0},
    {"foreign-pwrite", write_byte, 1, 0},
    {"foreign-read", plain_read, 1, 0},
    {"foreign-open-rdonly", open_read_only, 1, 0},
    {"foreign-open-rdwr", open_read_write, 1, 0},
    {"foreign-open-creat", open_create, 1, 0},
    {"foreign-stat", stat_path, 1, 0},
    {"foreign-fstat", fstat_file, 1, 0},
    {"foreign-access", access_path, 1, 0},
    {"mmap-anonymous", map_anonymous, 1, 0},
    {"mmap-shared", map_shared, 1, 0},
    {"fork-exit", fork_exit, 50, 0},
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

int main(int argc, char **argv)
{
    int repetitions = argc > 1 ? atoi(argv[1]) : 100;
    char path[] = "/tmp/launcher-XXXXXX";
    struct test_argument made = {.size = sizeof(made)};
    file = mkstemp(path);
    unlink(path);
    if (write(file, page, sizeof page) != sizeof page)
        return 1;
    null = open("/dev/null", O_RDWR);
    device = open("/dev/iommu", O_RDWR);
    if (device >= 0 && ioctl(device, TEST_MAKE_QUEUE, &made) == 0)
        queue = made.value;
    regions = open("/dev/vfio/devices/vfio0", O_RDWR);
    for (size_t i = 0; i < sizeof costs / sizeof *costs; i++) {
        double rounds[99];
        int count = repetitions / costs[i].divisor + 1;
        if (costs[i].needs_device && device < 0)
            continue;
        for (int round = 0; round < 99; round++) {
            double begin = now();
            for (int j = 0; j < count; j++)
                costs[i].call();
            rounds[round] = (now() - begin) / count;
        }
        qsort(rounds, 99, sizeof *rounds, compare);
        printf("%-20s %9.0f %9.0f\n", costs[i].name, rounds[0], rounds[49]);
    }
    return use == -1;
}

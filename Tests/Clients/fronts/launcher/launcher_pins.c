/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs whose private memory the kernel pins for them, and that are killed at any moment.
 *
 *   launcher_pins victims COUNT [MICROSECONDS]
 *                                 kills that many children while they map, each at a random moment
 *                                 (6000 us); nothing may be left
 *   launcher_pins hold            maps, prints the process IDs of itself and of its agent, and waits
 *   launcher_pins late            maps and accesses memory while another thread's MAP waits for a
 *                                 page that this process supplies itself
 *
 * Needs `iommufd-sim run --selftest`.
 */
#include "late/late.h"
#include "mock/mock.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

/** Clients after which the launcher has filled its caches of address spaces and threads. */
enum { WARM_UP = 100 };
/** Descriptors of processes that have ended, which a cache of the launcher keeps for a while. */
enum { CACHED = 64 };
enum { RW = PROT_READ | PROT_WRITE, PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS };

static int is_agent(const char *path)
{
    char name[32] = "";
    FILE *file = fopen(path, "r");

    if (file) {
        if (!fgets(name, sizeof name, file))
            name[0] = 0;
        fclose(file);
    }
    return !strcmp(name, "iommufd-pins\n");
}

/** Returns an agent whose parent is `parent`, or 0. */
static int agent_of(int parent)
{
    char path[64], line[64];
    int found = 0, ppid;
    DIR *directory = opendir("/proc");

    for (struct dirent *entry; !found && (entry = readdir(directory));) {
        int pid = atoi(entry->d_name);

        snprintf(path, sizeof path, "/proc/%d/comm", pid);
        if (!pid || !is_agent(path))
            continue;
        snprintf(path, sizeof path, "/proc/%d/status", pid);
        FILE *status = fopen(path, "r");
        while (status && fgets(line, sizeof line, status))
            if (sscanf(line, "PPid: %d", &ppid) == 1 && ppid == parent)
                found = pid;
        if (status)
            fclose(status);
    }
    closedir(directory);
    return found;
}

static int count_entries(const char *path)
{
    int count = 0;
    DIR *directory = opendir(path);

    if (!directory)
        return -1;
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static int silent_map(uint32_t ioas, void *memory, size_t length, uint64_t iova)
{
    struct iommu_ioas_map cmd = {.size = sizeof cmd, .flags = FIXED | R | W, .ioas_id = ioas,
                                 .user_va = (uintptr_t)memory, .length = length, .iova = iova};

    return ioctl(iommufd, IOMMU_IOAS_MAP, &cmd) ? errno : 0;
}

static uint32_t hwpt;

static uint32_t open_domain(void)
{
    struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
    struct iommu_test_cmd domain = test_command(IOMMU_TEST_OP_MOCK_DOMAIN, 0);

    iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    if (iommufd < 0 || ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc))
        exit(2);
    domain.id = alloc.out_ioas_id;
    if (ioctl(iommufd, IOMMU_TEST_CMD, &domain))
        exit(2);
    hwpt = domain.mock_domain.out_hwpt_id;
    return alloc.out_ioas_id;
}

static void victim(void)
{
    uint32_t ioas = open_domain();

    for (unsigned i = 0;; i++) {
        size_t length = (1 + i % 64) * PAGE;
        void *memory = mmap(NULL, length, RW, PRIVATE, -1, 0);
        struct iommu_ioas_unmap cmd = {.size = sizeof cmd, .ioas_id = ioas, .iova = 0x1000000,
                                       .length = length};

        if (silent_map(ioas, memory, length, 0x1000000))
            exit(3);
        if (i % 3)
            ioctl(iommufd, IOMMU_IOAS_UNMAP, &cmd);
        else
            close(iommufd), ioas = open_domain();
        munmap(memory, length);
    }
}

static int kill_victims(unsigned count, int longest)
{
    char descriptors[64], threads[64];
    int launcher = getppid(), before, status, failed = 0;

    snprintf(descriptors, sizeof descriptors, "/proc/%d/fd", launcher);
    snprintf(threads, sizeof threads, "/proc/%d/task", launcher);
    before = 0;
    for (unsigned i = 0; i < WARM_UP + count; i++) {
        pid_t child = fork();

        if (child == 0)
            victim();
        usleep(rand() % longest);
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        if (!WIFSIGNALED(status))
            printf("child %u ended with %d\n", i, WEXITSTATUS(status)), failed = 1;
        if (i == WARM_UP - 1) {
            usleep(100000);
            before = count_entries(descriptors);
        }
    }
    for (unsigned i = 0; i < 100 && (agent_of(launcher) || count_entries(threads) > 26); i++)
        usleep(20000);
    printf("descriptors %d %d, threads %d, agent %d\n", before, count_entries(descriptors),
           count_entries(threads) - 2, agent_of(launcher));
    return failed || count_entries(descriptors) > before + CACHED || count_entries(threads) > 26
           || agent_of(launcher);
}

static double milliseconds(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

struct late_map {
    uint32_t ioas;
    unsigned char *memory;
};

static void *map_late(void *argument)
{
    struct late_map *late = argument;

    return (void *)(intptr_t)silent_map(late->ioas, late->memory, 2 * PAGE, 0x1000000);
}

/** Has the device read a page and compare it with `memory`. Returns 0 or an errno. */
static int device_reads(void *memory, uint64_t iova)
{
    struct iommu_test_cmd check = test_command(IOMMU_TEST_OP_MD_CHECK_MAP, hwpt);

    check.check_map.iova = iova;
    check.check_map.length = PAGE;
    check.check_map.uptr = (uintptr_t)memory;
    return ioctl(iommufd, IOMMU_TEST_CMD, &check) ? errno : 0;
}

static int map_beside_late_pages(void)
{
    enum { PINS = 20 };
    struct late_map late = {.ioas = open_domain()};
    unsigned char *memory = mmap(NULL, (1 + PINS) * PAGE, RW, PRIVATE, -1, 0);
    double longest = 0;
    pthread_t thread;
    void *result;
    int failure = 0;

    late_open();
    late.memory = late_memory("late", 0x220000000000, 2);
    failure |= silent_map(late.ioas, memory, PAGE, 0x2000000);
    pthread_create(&thread, NULL, map_late, &late);
    await_fault();
    for (int i = 0; i < PINS; i++) {
        double start = milliseconds();

        failure |= silent_map(late.ioas, memory + (1 + i) * PAGE, PAGE, 0x3000000 + i * PAGE);
        failure |= device_reads(memory, 0x2000000);
        double duration = milliseconds() - start;
        if (duration > longest)
            longest = duration;
    }
    supply(late.memory, 2);
    pthread_join(thread, &result);
    printf("beside a late page: error %d, the longest MAP and read %.1f ms; the late MAP: %d\n",
           failure, longest, (int)(intptr_t)result);
    return failure || longest > 50 || result != NULL;
}

int main(int argc, char **argv)
{
    if (argc > 2 && !strcmp(argv[1], "victims"))
        return kill_victims((unsigned)atoi(argv[2]), argc > 3 ? atoi(argv[3]) : 6000);
    if (argc == 2 && !strcmp(argv[1], "late"))
        return map_beside_late_pages();
    if (argc < 2 || strcmp(argv[1], "hold"))
        return 64;
    uint32_t ioas = open_domain();
    void *memory = mmap(NULL, PAGE, RW, PRIVATE, -1, 0);
    if (silent_map(ioas, memory, PAGE, 0x1000000))
        return 2;
    printf("%d %d\n", getpid(), agent_of(getpid()));
    fflush(stdout);
    for (;;)
        pause();
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one client can do to make the server wait or run out of something.
 */
#include "siege.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { STRUCT_THREADS = 64, MAP_THREADS = 20, PROCESSES = 4, FORKERS = 30 };

static int shared_iommufd;
static uint32_t shared_ioas;
static char *memory;
static size_t length;

static void start_threads(unsigned count, void *(*run)(void *))
{
    for (unsigned i = 0; i != count; i++) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, run, (void *)(uintptr_t)i))
            fatal("no thread");
    }
}

static void wait_until_killed(void)
{
    ready();
    for (;;)
        pause();
}

static void *map_memory(size_t size)
{
    void *address = mmap(NULL, size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (address == MAP_FAILED)
        fatal("mmap: %s", strerror(errno));
    return address;
}

/* ---- memory that takes long ---------------------------------------------------------------- */

static void *map_all(void *number)
{
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE,
        .ioas_id = shared_ioas,
        .user_va = (uintptr_t)memory,
        .length = length,
        .iova = (uintptr_t)number * (64ULL << 30),
    };

    if (ioctl(shared_iommufd, IOMMU_IOAS_MAP, &map))
        fprintf(stderr, "IOMMU_IOAS_MAP: %s\n", strerror(errno));
    return NULL;
}

/** Maps GiBs of untouched memory for a device, in twenty threads. */
static void attack_with_maps(void)
{
    const char *text = getenv("SIEGE_GIB");
    struct victim victim;

    open_victim(&victim, 0);
    shared_iommufd = victim.iommufd;
    shared_ioas = victim.ioas;
    length = strtoul(text ? text : "32", NULL, 0) << 30;
    memory = map_memory(length);
    start_threads(MAP_THREADS, map_all);
    wait_until_killed();
}

/* ---- memory that never arrives ------------------------------------------------------------- */

static void *issue_missing_struct(void *number)
{
    ioctl(shared_iommufd, IOMMU_IOAS_ALLOC, memory + PAGE * (uintptr_t)number);
    return NULL;
}

static void begin_missing_structs(void)
{
    memory = map_memory(PAGE * STRUCT_THREADS);
    if (!make_missing(memory, PAGE * STRUCT_THREADS))
        fatal("no userfaultfd: %s", strerror(errno));
    shared_iommufd = open_iommufd();
    start_threads(STRUCT_THREADS, issue_missing_struct);
    usleep(200000);
}

static void attack_with_structs(void)
{
    begin_missing_structs();
    wait_until_killed();
}

static void attack_with_processes(void)
{
    for (unsigned i = 1; i != PROCESSES; i++)
        if (fork() == 0)
            break;
    begin_missing_structs();
    wait_until_killed();
}

/* ---- DMA that waits ------------------------------------------------------------------------ */

static void *issue_stuck_struct(void *number)
{
    ioctl(shared_iommufd, IOMMU_IOAS_ALLOC, memory + PAGE * (uintptr_t)number);
    return NULL;
}

/** Passes structs in a file whose pages do not arrive. */
static void attack_with_file_structs(void)
{
    int file = open_stuck_file(PAGE * STRUCT_THREADS);

    if (file < 0)
        fatal("no file system: %s", strerror(errno));
    memory = mmap(NULL, PAGE * STRUCT_THREADS, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    if (memory == MAP_FAILED)
        fatal("mmap: %s", strerror(errno));
    shared_iommufd = open_iommufd();
    stop_stuck_file(file);
    start_threads(STRUCT_THREADS, issue_stuck_struct);
    usleep(200000);
    wait_until_killed();
}

static volatile bool has_rung;

static void *close_all(void *victim)
{
    struct victim *attacker = victim;

    while (!has_rung)
        usleep(10000);
    usleep(200000);
    close(attacker->device.fd);
    close(attacker->device.faults);
    close(attacker->iommufd);
    return NULL;
}

static void ring_and_close(struct victim *attacker)
{
    pthread_t thread;

    /* First, because the DMA that waits holds the lock of this process's mappings. */
    if (pthread_create(&thread, NULL, close_all, attacker))
        fatal("no thread");
    ring(attacker);
    has_rung = true;
    usleep(300000);
    wait_until_killed();
}

/** Rings a doorbell whose DMA waits for memory, and then closes the device. */
static void attack_with_doorbell(void)
{
    static struct victim attacker;

    memory = map_memory(PAGE);
    memset(memory, 1, PAGE);
    open_victim(&attacker, 0);
    map_page(&attacker, memory, PAGE);
    add_doorbell(&attacker, RUN | FROM_MEMORY);
    if (!make_missing(memory, PAGE))
        fatal("no userfaultfd: %s", strerror(errno));
    ring_and_close(&attacker);
}

/** As above, with a page of a file that does not arrive a second time. */
static void attack_with_file_doorbell(void)
{
    static struct victim attacker;
    int file = open_stuck_file(PAGE);

    if (file < 0)
        fatal("no file system: %s", strerror(errno));
    memory = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
    if (memory == MAP_FAILED)
        fatal("mmap: %s", strerror(errno));
    open_victim(&attacker, 0);
    map_for_reading(&attacker, memory, PAGE);
    add_doorbell(&attacker, RUN | FROM_MEMORY);
    madvise(memory, PAGE, MADV_DONTNEED);
    stop_stuck_file(file);
    ring_and_close(&attacker);
}

/* ---- descriptors --------------------------------------------------------------------------- */

/** Maps files until the server refuses, or 20,000. */
static void attack_with_files(void)
{
    struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
    unsigned mapped = 0;

    shared_iommufd = open_iommufd();
    if (ioctl(shared_iommufd, IOMMU_IOAS_ALLOC, &alloc))
        fatal("IOMMU_IOAS_ALLOC: %s", strerror(errno));
    while (mapped != 20000) {
        struct iommu_ioas_map_file map = {
            .size = sizeof(map),
            .flags = IOMMU_IOAS_MAP_READABLE,
            .ioas_id = alloc.out_ioas_id,
            .fd = memfd_create("siege", MFD_CLOEXEC),
            .length = PAGE,
        };
        long result;

        if (map.fd < 0 || ftruncate(map.fd, PAGE))
            fatal("memfd: %s", strerror(errno));
        result = ioctl(shared_iommufd, IOMMU_IOAS_MAP_FILE, &map);
        close(map.fd);
        if (result)
            break;
        mapped++;
    }
    printf("     %u files, then %s\n", mapped, mapped == 20000 ? "enough" : strerror(errno));
    if (mapped != 20000 && errno != EMFILE && errno != ENOMEM)
        fatal("MAP_FILE: %s", strerror(errno));
    fflush(stdout);
    wait_until_killed();
}

/** Opens the iommufd until the server refuses, or 20,000 times. */
static void attack_with_opens(void)
{
    const struct rlimit most = {20100, 20100};
    unsigned opened = 0;

    setrlimit(RLIMIT_NOFILE, &most);
    while (opened != 20000 && open(getenv("IOMMUFD") ? getenv("IOMMUFD") : "/dev/iommu", O_RDWR) >= 0)
        opened++;
    printf("     %u opens, then %s\n", opened, opened == 20000 ? "enough" : strerror(errno));
    fflush(stdout);
    wait_until_killed();
}

/* ---- processes ----------------------------------------------------------------------------- */

/** Thirty processes that fork children all the time; each child opens, allocates and ends. */
static void attack_with_forks(void)
{
    for (unsigned i = 0; i != FORKERS; i++) {
        if (fork())
            continue;
        for (;;) {
            if (fork() == 0) {
                struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
                int iommufd = open_iommufd();

                ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc);
                _exit(0);
            }
            wait(NULL);
        }
    }
    wait_until_killed();
}

const struct attack attacks[] = {
    {"maps", attack_with_maps, 1},           {"structs", attack_with_structs, 10},
    {"processes", attack_with_processes, 2}, {"doorbell", attack_with_doorbell, 3},
    {"file_structs", attack_with_file_structs, 3},
    {"file_doorbell", attack_with_file_doorbell, 3},
    {"files", attack_with_files, 2},         {"opens", attack_with_opens, 1},
    {"forks", attack_with_forks, 1},
};
const size_t attack_count = sizeof(attacks) / sizeof(*attacks);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Very many PASIDs, queues, HWPTs and areas. Each must cost as much as the first, and other
 * programs must not wait while a program unmaps or closes what it has. Needs the selftest interface.
 *
 *   many [AREAS]   400,000 areas unless said otherwise
 *
 * A time can be too long because the machine is busy, so a check that fails is made again.
 */
#include "check.h"
#include "nodes.h"

#include <linux/iommufd.h>

#include "iommufd_test.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ATTEMPTS = 4, LONGEST_WAIT = 50 /* ms */, PAGES = 256 };

static int iommufd;
static uint32_t stdev, idev, table;

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
}

static void must(int result, const char *what)
{
    if (result >= 0)
        return;
    perror(what);
    exit(1);
}

static uint32_t ioas_alloc(int fd)
{
    struct iommu_ioas_alloc cmd = {.size = sizeof(cmd)};

    must(ioctl(fd, IOMMU_IOAS_ALLOC, &cmd), "IOAS_ALLOC");
    return cmd.out_ioas_id;
}

static uint32_t hwpt_alloc(uint32_t ioas)
{
    struct iommu_hwpt_alloc cmd = {.size = sizeof(cmd), .flags = IOMMU_HWPT_ALLOC_PASID,
                                   .dev_id = idev, .pt_id = ioas};

    must(ioctl(iommufd, IOMMU_HWPT_ALLOC, &cmd), "HWPT_ALLOC");
    return cmd.out_hwpt_id;
}

/** Opens `iommufd` with a mock device that is attached to `table`, and returns its IOAS. */
static uint32_t open_with_device(void)
{
    uint32_t ioas;
    struct iommu_test_cmd mock = {.size = sizeof(mock), .op = IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS};
    struct iommu_test_cmd move = {.size = sizeof(move), .op = IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE};

    iommufd = open_iommufd();
    mock.id = ioas = ioas_alloc(iommufd);
    mock.mock_domain_flags.dev_flags = MOCK_FLAGS_DEVICE_PASID;
    must(ioctl(iommufd, IOMMU_TEST_CMD, &mock), "MOCK_DOMAIN");
    stdev = move.id = mock.mock_domain_flags.out_stdev_id;
    idev = mock.mock_domain_flags.out_idev_id;
    table = move.mock_domain_replace.pt_id = hwpt_alloc(ioas);
    must(ioctl(iommufd, IOMMU_TEST_CMD, &move), "MOCK_DOMAIN_REPLACE");
    return ioas;
}

/* ---- constant time ------------------------------------------------------------------------ */

static void attach_pasid(int number)
{
    struct iommu_test_cmd cmd = {.size = sizeof(cmd), .op = IOMMU_TEST_OP_PASID_ATTACH,
                                 .id = stdev};

    /* PASID 1024 is made to fail. */
    cmd.pasid_attach.pasid = (uint32_t)number + 2000;
    cmd.pasid_attach.pt_id = table;
    must(ioctl(iommufd, IOMMU_TEST_CMD, &cmd), "PASID_ATTACH");
}

static void make_queue(int number)
{
    struct iommu_fault_alloc cmd = {.size = sizeof(cmd)};

    (void)number;
    must(ioctl(iommufd, IOMMU_FAULT_QUEUE_ALLOC, &cmd), "FAULT_QUEUE_ALLOC");
}

static uint32_t ioas_of_tables;

static void make_table(int number)
{
    (void)number;
    hwpt_alloc(ioas_of_tables);
}

/** Checks that the last fifth of the calls takes little longer than the first. */
static bool is_flat(const char *what, void (*call)(int number), int count)
{
    double first = 0, last = 0;

    for (int attempt = 0; attempt != ATTEMPTS; attempt++) {
        ioas_of_tables = open_with_device();
        for (int i = 0; i != count; i++) {
            double start = now();

            call(i);
            if (i < count / 5)
                first += now() - start;
            if (i >= count - count / 5)
                last += now() - start;
        }
        close(iommufd);
        if (last < 3 * first)
            break;
        fprintf(stderr, "%s: first %.0f ms, last %.0f ms\n", what, first, last);
        if (attempt != ATTEMPTS - 1)
            first = last = 0;
    }
    return check_number(last < 3 * first, true, "%d %s cost the same each", count, what);
}

/* ---- others do not wait ------------------------------------------------------------------- */

struct shared {
    volatile double longest;
    volatile bool is_over;
};

/** Makes calls on another iommufd in another process, and records the longest. */
static pid_t watch_waits(struct shared *shared)
{
    pid_t child = fork();
    int fd;

    if (child)
        return child;
    fd = open_iommufd();
    while (!shared->is_over) {
        double start = now(), time;
        struct iommu_destroy cmd = {sizeof(cmd), ioas_alloc(fd)};

        ioctl(fd, IOMMU_DESTROY, &cmd);
        time = now() - start;
        if (time > shared->longest)
            shared->longest = time;
        usleep(300);
    }
    _exit(0);
}

static void unmap_all(uint32_t ioas)
{
    struct iommu_ioas_unmap cmd = {sizeof(cmd), ioas, 0, UINT64_MAX};

    must(ioctl(iommufd, IOMMU_IOAS_UNMAP, &cmd), "IOAS_UNMAP");
}

static void just_close(uint32_t ioas)
{
    (void)ioas;
}

static bool others_proceed(const char *what, void (*end)(uint32_t ioas), int areas)
{
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *memory = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    for (int attempt = 0; attempt != ATTEMPTS; attempt++) {
        uint32_t ioas = open_with_device();
        pid_t child;

        for (int i = 0; i != areas; i++) {
            struct iommu_ioas_map cmd = {
                .size = sizeof(cmd), .flags = 7, .ioas_id = ioas, .length = 2048,
                .user_va = (uintptr_t)memory + (size_t)(i % PAGES) * 4096,
                .iova = MOCK_APERTURE_START + (uint64_t)i * 2048};

            must(ioctl(iommufd, IOMMU_IOAS_MAP, &cmd), "IOAS_MAP");
        }
        shared->longest = shared->is_over = 0;
        child = watch_waits(shared);
        usleep(50000);
        end(ioas);
        close(iommufd);
        /* What the server does after the close takes about as long as an unmap. */
        usleep(500000 + (useconds_t)areas * 3);
        shared->is_over = true;
        waitpid(child, NULL, 0);
        if (shared->longest < LONGEST_WAIT)
            break;
        fprintf(stderr, "%s: others waited %.0f ms\n", what, shared->longest);
    }
    return check_number(shared->longest < LONGEST_WAIT, true, "%s %d areas lets others proceed",
                        what, areas);
}

int main(int argc, char **argv)
{
    struct rlimit files = {1 << 16, 1 << 16};
    int areas = argc > 1 ? atoi(argv[1]) : 400000;
    bool is_good = true;

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    is_good &= is_flat("PASIDs", attach_pasid, 20000);
    if (files.rlim_max > 4000)
        is_good &= is_flat("queues", make_queue, 2500);
    is_good &= is_flat("HWPTs of an IOAS", make_table, 3000);
    is_good &= others_proceed("an unmap of", unmap_all, areas);
    is_good &= others_proceed("a close with", just_close, areas);
    return !is_good;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many callers at once: threads that share an open file, and processes with files of their own,
 * some of which issue random calls or are killed during a call. An ordinary client beside them must
 * get the same answers as alone.
 *
 *   crowd SEED
 *
 * The client prints nothing that depends on the order of the threads.
 */
#include "transcript/ioas.h"
#include "random.h"

#include <pthread.h>
#include <signal.h>

enum { THREADS = 8, ROUNDS = 40, HOSTILE = 3, VICTIMS = 20 };

/* ---- threads that share an open file ---------------------------------------------------- */

struct worker {
    pthread_t thread;
    uint32_t shared; /* the IOAS that all threads use */
    unsigned number;
    unsigned failures;
};

static int call(unsigned long request, void *cmd)
{
    return ioctl(iommufd, request, cmd) ? errno : 0;
}

/**
 * Maps, copies and unmaps in an IOAS of its own and in a range of its own of the shared IOAS. No
 * call may fail.
 */
static void *work(void *argument)
{
    struct worker *me = argument;

    for (unsigned i = 0; i != ROUNDS; i++) {
        struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
        struct iommu_destroy destroy_cmd = {.size = sizeof(destroy_cmd)};
        struct iommu_ioas_map own = {
            .size = sizeof(own), .flags = R | W, .user_va = 0x200000000000, .length = PAGE * 4};
        struct iommu_ioas_map ours = own;
        struct iommu_ioas_copy across = {.size = sizeof(across), .flags = R, .length = PAGE};
        struct iommu_ioas_unmap undo = {.size = sizeof(undo), .length = PAGE * 4};

        me->failures += call(IOMMU_IOAS_ALLOC, &alloc) != 0;
        own.ioas_id = alloc.out_ioas_id;
        me->failures += call(IOMMU_IOAS_MAP, &own) != 0 || own.iova != 0x4000;
        ours.ioas_id = me->shared;
        ours.flags |= FIXED;
        ours.iova = 0x1000000 * (me->number + 1) + i % 16 * 0x10000;
        me->failures += call(IOMMU_IOAS_MAP, &ours) != 0;
        across.dst_ioas_id = alloc.out_ioas_id;
        across.src_ioas_id = me->shared;
        across.src_iova = ours.iova;
        me->failures += call(IOMMU_IOAS_COPY, &across) != 0;
        undo.ioas_id = me->shared;
        undo.iova = ours.iova;
        me->failures += call(IOMMU_IOAS_UNMAP, &undo) != 0 || undo.length != PAGE * 4;
        destroy_cmd.id = alloc.out_ioas_id;
        me->failures += call(IOMMU_DESTROY, &destroy_cmd) != 0;
    }
    return NULL;
}

static void test_threads(void)
{
    struct worker workers[THREADS];
    uint32_t shared = ioas_alloc();
    unsigned failures = 0;

    for (unsigned i = 0; i != THREADS; i++) {
        workers[i] = (struct worker){.shared = shared, .number = i};
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
            exit(2);
    }
    for (unsigned i = 0; i != THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        failures += workers[i].failures;
    }
    printf("%d threads, %d rounds each, %u failures\n", THREADS, ROUNDS, failures);
    unmap(shared, 0, UINT64_MAX);
    ioas_alloc();
}

/* ---- other processes -------------------------------------------------------------------- */

/** Issues random calls on an open file of its own until it is killed. */
static void issue_random_calls(uint64_t seed)
{
    uint64_t words[32];
    void *argument;

    random_seed(seed);
    close(iommufd);
    iommufd = open_iommufd();
    for (;;) {
        for (unsigned i = 0; i != COUNT(words); i++) {
            words[i] = random_next();
            words[i] >>= below(64);
        }
        if (chance(90))
            words[0] = words[0] << 32 | (24 + 8 * below(5));
        argument = chance(95) ? (void *)words : (void *)words[1];
        ioctl(iommufd, _IO(IOMMUFD_TYPE, 0x60 + below(0x29)), argument);
        if (chance(1)) {
            close(iommufd);
            iommufd = open_iommufd();
        }
    }
}

/** Issues ordinary calls on an open file of its own until it is killed. */
static void issue_ordinary_calls(uint64_t seed)
{
    struct worker me = {.number = 0};

    (void)seed;
    close(iommufd);
    iommufd = open_iommufd();
    for (;;) {
        struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};

        call(IOMMU_IOAS_ALLOC, &alloc);
        me.shared = alloc.out_ioas_id;
        work(&me);
    }
}

static pid_t start(void (*what)(uint64_t), uint64_t seed)
{
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child < 0)
        exit(2);
    if (child == 0) {
        what(seed);
        _exit(0);
    }
    return child;
}

static void end(pid_t child, unsigned *killed)
{
    int status;

    kill(child, SIGKILL);
    if (waitpid(child, &status, 0) == child && WIFSIGNALED(status))
        ++*killed;
}

/** Issues the calls of an ordinary client and prints their lines. */
static void run_ordinary_client(void)
{
    static const unsigned lengths[] = {1, 2, 5, 512, 513};
    uint32_t first = ioas_alloc(), second = ioas_alloc();

    for (size_t i = 0; i != COUNT(lengths); i++)
        map(first, 0x200000000000, lengths[i] * PAGE, R | W, 0);
    copy(second, first, 0x1000, PAGE, R, 0);
    unmap(first, 0x1000, PAGE);
    unmap(first, 0, UINT64_MAX);
    destroy(first);
    print_iova_ranges(second);
    destroy(second);
}

int main(int argc, char **argv)
{
    pid_t hostile[HOSTILE];
    unsigned unused = 0, killed = 0;

    read_seed_and_count(argc, argv, &unused);
    begin("threads on one open");
    test_threads();

    reopen("beside hostile processes");
    for (unsigned i = 0; i != HOSTILE; i++)
        hostile[i] = start(issue_random_calls, random_next());
    run_ordinary_client();
    for (unsigned i = 0; i != VICTIMS; i++) {
        pid_t victim = start(issue_ordinary_calls, 0);

        usleep((useconds_t)below(20000));
        end(victim, &killed);
    }
    printf("killed %u of %d while they worked\n", killed, VICTIMS);
    run_ordinary_client();
    killed = 0;
    for (unsigned i = 0; i != HOSTILE; i++)
        end(hostile[i], &killed);
    printf("killed %u of %d hostile ones\n", killed, HOSTILE);

    reopen("afterwards");
    run_ordinary_client();
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crowd SEED: many callers at once. Threads on one open, processes with opens of their own, hostile
 * ones among them, some killed in the middle of a call; and an ordinary client beside all that, whose
 * answers must be those of a quiet machine.
 *
 * Who is first among the threads is nobody's business, so only what cannot depend on it is printed.
 */
#include "transcript/ioas.h"
#include "random.h"

#include <pthread.h>
#include <signal.h>

enum { THREADS = 8, ROUNDS = 40, HOSTILE = 3, VICTIMS = 20 };

/* ---- threads on one open ---------------------------------------------------------------- */

struct worker {
    pthread_t thread;
    uint32_t shared; /* an IOAS that all threads use */
    unsigned number;
    unsigned failures;
};

static int call(unsigned long request, void *cmd)
{
    return ioctl(iommufd, request, cmd) ? errno : 0;
}

/** A private IOAS, and a private part of the shared one: nothing may fail. */
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

static void threads(void)
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

/** Calls without end and without sense, on an open of its own. */
static void be_hostile(uint64_t seed)
{
    uint64_t words[32];
    void *argument;

    random_state = seed;
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

/** Ordinary work without end, until it is killed. */
static void be_busy(void)
{
    struct worker me = {.number = 0};

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

static void busy(uint64_t seed)
{
    (void)seed;
    be_busy();
}

static void end(pid_t child, unsigned *killed)
{
    int status;

    kill(child, SIGKILL);
    if (waitpid(child, &status, 0) == child && WIFSIGNALED(status))
        ++*killed;
}

/** What an ordinary client does and sees. */
static void ordinary(void)
{
    static const unsigned lengths[] = {1, 2, 5, 512, 513};
    uint32_t first = ioas_alloc(), second = ioas_alloc();

    for (size_t i = 0; i != COUNT(lengths); i++)
        map(first, 0x200000000000, lengths[i] * PAGE, R | W, 0);
    copy(second, first, 0x1000, PAGE, R, 0);
    unmap(first, 0x1000, PAGE);
    unmap(first, 0, UINT64_MAX);
    destroy(first);
    show_ranges(second);
    destroy(second);
}

int main(int argc, char **argv)
{
    pid_t hostile[HOSTILE];
    unsigned unused = 0, killed = 0;

    random_arguments(argc, argv, &unused);
    begin("threads on one open");
    threads();

    reopen("beside hostile processes");
    for (unsigned i = 0; i != HOSTILE; i++)
        hostile[i] = start(be_hostile, random_next());
    ordinary();
    for (unsigned i = 0; i != VICTIMS; i++) {
        pid_t victim = start(busy, 0);

        usleep((useconds_t)below(20000));
        end(victim, &killed);
    }
    printf("killed %u of %d while they worked\n", killed, VICTIMS);
    ordinary();
    killed = 0;
    for (unsigned i = 0; i != HOSTILE; i++)
        end(hostile[i], &killed);
    printf("killed %u of %d hostile ones\n", killed, HOSTILE);

    reopen("afterwards");
    ordinary();
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One client attacks the server, and another client measures how long its own calls take
 * meanwhile. Then the attacker is killed, and must be gone soon, so that the next one finds its
 * share free.
 *
 *   siege [ATTACK...]      default: all, see attacks.c
 *
 * The aims are 50 ms for the longest call and 1000 ms for the end of the attacker. A test on a busy
 * machine fails at five times and at three times that: $SIEGE_CALL_MS, $SIEGE_END_MS.
 */
#include "siege.h"

#include <sys/prctl.h>
#include <sys/wait.h>

enum { ROUND_MS = 1000, IDLE_MS = 300 };

static int ready_pipe[2];

void ready(void)
{
    if (write(ready_pipe[1], "r", 1) != 1)
        _exit(2);
}

/* ---- the victim ---------------------------------------------------------------------------- */

static struct victim victim;

struct latencies {
    double longest;
    const char *call;
    unsigned calls;
};

static void record(struct latencies *latencies, double begin, const char *call)
{
    double took = now_ms() - begin;

    latencies->calls++;
    if (took > latencies->longest) {
        latencies->longest = took;
        latencies->call = call;
    }
}

static void must(long result, const char *call)
{
    if (result < 0)
        fatal("the victim's %s: %s", call, strerror(errno));
}

#define TIMED(latencies, name, call)              \
    do {                                          \
        double begin = now_ms();                  \
        must((call), name);                       \
        record((latencies), begin, name);         \
    } while (0)

/** Rings the doorbell of the victim and waits for the DMA. */
static long ring_and_wait(void)
{
    double end = now_ms() + 20000;

    *victim.page = 0xff;
    ring(&victim);
    while (*victim.page == 0xff) {
        if (now_ms() > end) {
            errno = ETIMEDOUT;
            return -1;
        }
        usleep(50);
    }
    return 0;
}

/** The calls of an ordinary client with an iommufd of its own. */
static void make_calls(struct latencies *latencies)
{
    static char memory[4 * PAGE] __attribute__((aligned(PAGE)));
    struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = IOMMU_IOAS_MAP_READABLE,
        .user_va = (uintptr_t)memory,
        .length = sizeof(memory),
    };
    struct iommu_ioas_map_file file = {
        .size = sizeof(file), .flags = IOMMU_IOAS_MAP_READABLE, .length = PAGE};
    struct iommu_ioas_unmap unmap = {.size = sizeof(unmap), .length = UINT64_MAX};
    int iommufd;

    TIMED(latencies, "open", iommufd = open_iommufd());
    TIMED(latencies, "IOAS_ALLOC", ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc));
    map.ioas_id = file.ioas_id = unmap.ioas_id = alloc.out_ioas_id;
    TIMED(latencies, "IOAS_MAP", ioctl(iommufd, IOMMU_IOAS_MAP, &map));
    must(file.fd = memfd_create("victim", MFD_CLOEXEC), "memfd_create");
    must(ftruncate(file.fd, PAGE), "ftruncate");
    TIMED(latencies, "IOAS_MAP_FILE", ioctl(iommufd, IOMMU_IOAS_MAP_FILE, &file));
    close(file.fd);
    TIMED(latencies, "IOAS_UNMAP", ioctl(iommufd, IOMMU_IOAS_UNMAP, &unmap));
    TIMED(latencies, "close", close(iommufd));
    TIMED(latencies, "doorbell", ring_and_wait());
}

static struct latencies measure(double milliseconds)
{
    struct latencies latencies = {0};
    double end = now_ms() + milliseconds;

    do
        make_calls(&latencies);
    while (now_ms() < end);
    return latencies;
}

/* ---- the siege ----------------------------------------------------------------------------- */

static unsigned long limit(const char *name, unsigned long standard)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 0) : standard;
}

/** Starts the attack in a new process group, and waits until it has begun. */
static pid_t start(const struct attack *attack)
{
    char byte;
    pid_t attacker;

    fflush(stdout);
    attacker = fork();
    if (attacker == 0) {
        setpgid(0, 0);
        attack->run();
        _exit(0);
    }
    setpgid(attacker, attacker);
    if (read(ready_pipe[0], &byte, 1) != 1)
        exit(2);
    return attacker;
}

/** Kills the processes of the attack, and returns the milliseconds until all of them are gone. */
static double end(pid_t attacker)
{
    double begin = now_ms();

    kill(-attacker, SIGKILL);
    while (waitpid(-attacker, NULL, 0) > 0 || errno == EINTR)
        continue;
    return now_ms() - begin;
}

static bool withstand(const struct attack *attack)
{
    struct latencies longest = {0};
    double end_ms = 0;

    for (unsigned round = 0; round != attack->rounds; round++) {
        pid_t attacker = start(attack);
        struct latencies latencies = measure(attack->rounds == 1 ? ROUND_MS : IDLE_MS);
        double ended = end(attacker);

        latencies.calls += longest.calls;
        if (latencies.longest < longest.longest) {
            latencies.longest = longest.longest;
            latencies.call = longest.call;
        }
        longest = latencies;
        end_ms = ended > end_ms ? ended : end_ms;
    }
    bool good = longest.longest <= (double)limit("SIEGE_CALL_MS", 250) &&
                end_ms <= (double)limit("SIEGE_END_MS", 3000);

    printf("%-4s %s: %u calls, the longest %.1f ms (%s); the attacker ended after %.0f ms\n",
           good ? "ok" : "BAD", attack->name, longest.calls, longest.longest, longest.call, end_ms);
    fflush(stdout);
    return good;
}

static const struct attack *find(const char *name)
{
    for (size_t i = 0; i != attack_count; i++)
        if (strcmp(attacks[i].name, name) == 0)
            return &attacks[i];
    fatal("no attack %s", name);
}

int main(int argc, char **argv)
{
    static char page[PAGE] __attribute__((aligned(PAGE)));
    bool good = true;

    /* The processes of an attack are this process's children when their parents end. */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    if (pipe2(ready_pipe, O_CLOEXEC))
        fatal("pipe");
    open_victim(&victim, 1);
    map_page(&victim, page, PAGE);
    add_doorbell(&victim, RUN);
    struct latencies before = measure(IDLE_MS);
    printf("     before: %u calls, the longest %.1f ms (%s)\n", before.calls, before.longest,
           before.call);
    for (int i = 1; i < argc; i++)
        good &= withstand(find(argv[i]));
    for (size_t i = 0; argc == 1 && i != attack_count; i++)
        good &= withstand(&attacks[i]);
    return good ? 0 : 1;
}

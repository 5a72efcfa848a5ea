/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors, paths, threads, signals and memory of a program under the launcher. The program runs
 * on the test device of Tests/LauncherTestServer, whose answers show what the front end has
 * delivered.
 *
 *   launcher_front [TEST...]     prints a line for each test; status 1 when one has failed
 *   launcher_front storm         issues calls of all kinds until it is killed
 *   launcher_front live          prints how many files are open in the server beside its own
 *   launcher_front orphan        kills its supervisor and checks how calls then fail
 */
#include "front.h"

/* ---- storm ------------------------------------------------------------------------------ */

static void *storm_thread(void *unused)
{
    int fd = open_iommu();
    struct test_exchange exchange = {0};
    for (;;) {
        int other = open(VFIO, O_RDWR);
        struct test_queue queue = {.flags = 1};
        ioctl(other, TEST_EXCHANGE, &exchange);
        if (ioctl(other, TEST_MAKE_QUEUE, &queue) == 0) {
            uint32_t record;
            push(fd, &queue, 1);
            if (read(queue.fd, &record, 4) < 0)
                continue;
            close(queue.fd);
        }
        ioctl(fd, TEST_COUNT, 50L);
        close(other);
    }
    return unused;
}

static void storm(void)
{
    pthread_t thread;
    if (fork() == 0)
        storm_thread(NULL);
    for (int i = 0; i < 3; i++)
        pthread_create(&thread, NULL, storm_thread, NULL);
    storm_thread(NULL);
}

/* ---- orphan ----------------------------------------------------------------------------- */

static void orphan(void)
{
    int fd = open_iommu();
    CHECK(identify(fd) > 0);
    kill(getppid(), SIGKILL);
    for (int i = 0; i < 1000 && identify(fd) > 0; i++)
        usleep(1000);
    CHECK_ERRNO(identify(fd), ENOSYS);
    CHECK_ERRNO(open(IOMMU, O_RDWR), ENOSYS);
    CHECK(open("/etc/passwd", O_RDONLY) >= 0 && close(fd) == 0);
    printf("%s orphan\n", failed ? "FAILED" : "ok");
    _exit(failed);
}

/* ----------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    {"identity", test_identity}, {"release", test_release}, {"paths", test_paths},
    {"status", test_status},     {"memory", test_memory},   {"offsets", test_offsets},
    {"mappings", test_mappings}, {"kvm", test_kvm},
    {"queue", test_queue},       {"epoll", test_epoll},     {"queue_limits", test_queue_limits},
    {"threads", test_threads},   {"signals", test_signals},
};

int main(int argc, char **argv)
{
    int status = 0;
    self = argv[0];
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 4 && strcmp(argv[1], "check-id") == 0)
        return identify(atoi(argv[2])) != atoi(argv[3]);
    if (argc == 2 && strcmp(argv[1], "storm") == 0)
        storm();
    if (argc == 2 && strcmp(argv[1], "orphan") == 0)
        orphan();
    if (argc == 2 && strcmp(argv[1], "live") == 0)
        return printf("%d\n", count_live_files(open_iommu()) - 1) < 0;
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        bool wanted = argc < 2;
        for (int j = 1; j < argc; j++)
            wanted |= strcmp(argv[j], tests[i].name) == 0;
        if (!wanted)
            continue;
        failed = false;
        skipped = NULL;
        tests[i].run();
        if (skipped)
            printf("skipped %s: %s\n", tests[i].name, skipped);
        else
            printf("%s %s\n", failed ? "FAILED" : "ok", tests[i].name);
        status |= failed;
    }
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths, file status, mappings, stand-in files and signals of a program under the launcher. The
 * program runs on the test device of Tests/FrontTestServer. The conformance suite tests what is the
 * same under each front end.
 *
 *   launcher_front [TEST...]     prints a line for each test; status 1 when one has failed
 *   launcher_front storm         issues calls of all kinds until it is killed
 *   launcher_front live          prints how many files are open in the server beside its own
 *   launcher_front orphan        kills its supervisor and checks how calls then fail
 */
#include "launcher_front.h"

#include <pthread.h>
#include <signal.h>

/* ---- storm ------------------------------------------------------------------------------ */

static void *storm_thread(void *unused)
{
    int fd = open(IOMMU, O_RDWR | O_CLOEXEC);
    struct test_exchange exchange = {0};
    for (;;) {
        int other = open(VFIO, O_RDWR);
        uint32_t id;
        ioctl(other, TEST_EXCHANGE, &exchange);
        int queue = make_queue(other, true, &id);
        if (queue >= 0) {
            struct test_record record;
            push(fd, id, 1, 1);
            if (read(queue, &record, 16) < 0)
                continue;
            close(queue);
        }
        request(fd, TEST_COUNT, 50);
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
    int fd = open_node();
    CHECK(open_id(fd) > 0);
    kill(getppid(), SIGKILL);
    for (int i = 0; i < 1000 && open_id(fd) > 0; i++)
        usleep(1000);
    CHECK_ERRNO(open_id(fd), ENOSYS);
    CHECK_ERRNO(open(IOMMU, O_RDWR), ENOSYS);
    CHECK_ERRNO(open("/etc/passwd", O_RDONLY), ENOSYS);
    CHECK(close(fd) == 0);
    printf("%s orphan\n", failures ? "FAILED" : "ok");
    fflush(stdout);
    _exit(failures != 0);
}

/* ----------------------------------------------------------------------------------------- */

bool is_node_at(const char *path, int flags)
{
    int fd = open(path, flags, 0600);
    bool is_node = fd >= 0 && open_id(fd) > 0;
    close(fd);
    return is_node;
}

static const struct test tests[] = {
    {"paths", test_paths},
    {"status", test_status},
    {"stand_ins", test_stand_ins},
    {"mappings", test_mappings},
    {"kvm", test_kvm},
    {"queue_numbers", test_queue_numbers},
    {"races", test_races},
    {"signals", test_signals},
};

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "storm") == 0)
        storm();
    if (argc == 2 && strcmp(argv[1], "orphan") == 0)
        orphan();
    if (argc == 2 && strcmp(argv[1], "live") == 0)
        return printf("%ld\n", count_open(open_node()) - 1) < 0;
    return run_tests(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}

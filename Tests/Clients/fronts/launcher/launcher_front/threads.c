/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of several threads at once, and calls that are interrupted by signals. */
#include "front.h"

static void *count_often(void *argument)
{
    int fd = open_iommu(), id = identify(fd);
    long bad = 0;
    for (int i = 0; i < 300; i++) {
        int other = open_iommu();
        bad += other < 0 || identify(fd) != id || identify(other) == id;
        close(other);
        bad += ioctl(*(int *)argument, TEST_COUNT, 0) <= 0;
    }
    close(fd);
    return (void *)bad;
}

void test_threads(void)
{
    int fd = open_iommu(), before = count_live_files(fd), count = ioctl(fd, TEST_COUNT, 0);
    in_threads(8, count_often, &fd);
    CHECK(ioctl(fd, TEST_COUNT, 0) == count + 8 * 300 + 1);
    CHECK(count_live_files(fd) == before);
    close(fd);
}

static volatile sig_atomic_t alarms;
static void on_alarm(int signal)
{
    (void)signal;
    alarms++;
}

void test_signals(void)
{
    int fd = open_iommu();
    for (int restart = 0; restart < 2; restart++) {
        struct sigaction action = {.sa_handler = on_alarm, .sa_flags = restart ? SA_RESTART : 0};
        sigaction(SIGALRM, &action, NULL);
        struct itimerval timer = {{0, 1000}, {0, 1000}};
        int begin = ioctl(fd, TEST_COUNT, 0), interrupted = 0, bad = 0;
        alarms = 0;
        setitimer(ITIMER_REAL, &timer, NULL);
        for (int i = 0; i < 100; i++)
            if (ioctl(fd, TEST_COUNT, 2000L) < 0)
                *(errno == EINTR ? &interrupted : &bad) += 1;
        setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
        /*
         * Each call takes effect once. Without SA_RESTART a call that is interrupted before the
         * supervisor has received it may fail with EINTR and have no effect.
         */
        CHECK(bad == 0 && interrupted <= (restart ? 0 : 20));
        int effects = ioctl(fd, TEST_COUNT, 0) - begin - 1;
        CHECK(effects == 100 - interrupted);
        if (effects != 100 - interrupted)
            printf("  %d effects, %d interrupted, %d failed\n", effects, interrupted, bad);
        if (interrupted)
            printf("  %d of 100 interrupted before they began\n", interrupted);
        CHECK(alarms > 50);
    }
    signal(SIGALRM, SIG_DFL);
    close(fd);
}

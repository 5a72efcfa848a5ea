/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are interrupted by signals. */
#include "launcher_front.h"

#include <signal.h>
#include <sys/time.h>

static volatile sig_atomic_t alarms;
static void on_alarm(int signal)
{
    (void)signal;
    alarms++;
}

void test_signals(void)
{
    int fd = open_node();
    for (int restart = 0; restart < 2; restart++) {
        struct sigaction action = {.sa_handler = on_alarm, .sa_flags = restart ? SA_RESTART : 0};
        sigaction(SIGALRM, &action, NULL);
        struct itimerval timer = {{0, 1000}, {0, 1000}};
        int begin = request(fd, TEST_COUNT, 0), interrupted = 0, bad = 0;
        alarms = 0;
        setitimer(ITIMER_REAL, &timer, NULL);
        for (int i = 0; i < 100; i++)
            if (request(fd, TEST_COUNT, 2000) < 0)
                *(errno == EINTR ? &interrupted : &bad) += 1;
        setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
        /*
         * Each call takes effect once. Without SA_RESTART a call that is interrupted before the
         * supervisor has received it may fail with EINTR and have no effect.
         */
        CHECK(bad == 0 && interrupted <= (restart ? 0 : 20));
        int effects = request(fd, TEST_COUNT, 0) - begin - 1;
        check(effects == 100 - interrupted, "%d effects, %d interrupted, %d failed", effects,
              interrupted, bad);
        if (interrupted)
            printf("  %d of 100 interrupted before they began\n", interrupted);
        CHECK(alarms > 50);
    }
    signal(SIGALRM, SIG_DFL);
    close(fd);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Signals: every call has exactly one effect, and no call fails with EINTR. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "../lib/front_client.h"

static int device;
static volatile sig_atomic_t alarms, nested, nested_bad;

/*
 * A phase ends after a number of rounds, or on a slow machine after some time, but not before
 * FEWEST rounds.
 */
enum { PHASE_SECONDS = 8, FEWEST = 10 };

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static int goes_on(int done, int most, double begin)
{
    return done < most && (done < FEWEST || now() < begin + PHASE_SECONDS);
}

static void count_alarm(int number)
{
    (void)number;
    alarms++;
}

static void call_device(int number)
{
    int saved = errno;

    (void)number;
    nested++;
    if (request(device, TEST_ECHO, nested) != nested + 1)
        nested_bad++;
    int queue = make_queue(device, false, NULL);
    if (queue < 0)
        nested_bad++;
    close(queue);
    errno = saved;
}

/** Returns `seconds` in microseconds, at least `least` and less than a second. */
static long timer_interval(long least, double seconds)
{
    long time = seconds * 1e6;

    return time < least ? least : time > 999999 ? 999999 : time;
}

static void one_of_each(int i)
{
    CHECK(request(device, TEST_ECHO, i) == i + 1);
    int queue = make_queue(device, false, NULL);
    CHECK(queue >= 0);
    close(queue);
}

/**
 * Calls with a timer signal every millisecond, or, on a slow machine, with several signals during
 * each call.
 */
static void test_alarms(int flags)
{
    struct sigaction action = {.sa_handler = count_alarm, .sa_flags = flags};
    sigset_t before, after;

    double begin = now();
    for (int i = 0; i < 5; i++)
        one_of_each(i);
    long interval = timer_interval(1000, (now() - begin) / 5 / 8);
    struct itimerval every = {{0, interval}, {0, interval}}, never = {{0, 0}, {0, 0}};

    alarms = 0;
    sigaction(SIGALRM, &action, NULL);
    sigprocmask(SIG_SETMASK, NULL, &before);
    setitimer(ITIMER_REAL, &every, NULL);
    begin = now();
    for (int i = 0; goes_on(i, 60, begin); i++)
        one_of_each(i);
    CHECK(request(device, TEST_SLEEP, 50) == 50);
    setitimer(ITIMER_REAL, &never, NULL);
    sigprocmask(SIG_SETMASK, NULL, &after);
    CHECK(alarms > 20);
    for (int number = 1; number < NSIG; number++)
        CHECK(sigismember(&before, number) == sigismember(&after, number));
}

static void test_calls_in_handlers(void)
{
    double begin = now();
    for (int i = 0; i < 5; i++)
        one_of_each(i);
    /* A handler must end before the next signal, or nothing else runs. */
    long interval = timer_interval(20000, (now() - begin) / 5 * 4);
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};

    sigaltstack(&stack, NULL);
    for (int flags = 0; flags <= SA_ONSTACK; flags += SA_ONSTACK) {
        struct sigaction action = {.sa_handler = call_device, .sa_flags = flags};
        struct itimerval every = {{0, interval}, {0, interval}}, never = {{0, 0}, {0, 0}};

        nested = nested_bad = 0;
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &every, NULL);
        begin = now();
        for (int i = 0; goes_on(i, 40, begin); i++)
            CHECK(request(device, TEST_ECHO, i) == i + 1);
        for (int i = 0; i < 100 && nested < 5; i++)
            CHECK(request(device, TEST_SLEEP, 20) == 20);
        setitimer(ITIMER_REAL, &never, NULL);
        CHECK(nested >= 5 && nested_bad == 0);
    }
}

/** A process that is stopped and continued while the server installs queues. */
static void test_stopped(void)
{
    pid_t child = fork();

    if (child == 0) {
        double begin = now();
        for (int i = 0; goes_on(i, 60, begin); i++) {
            int queue = make_queue(device, false, NULL);
            if (queue < 0)
                _exit(1);
            close(queue);
        }
        _exit(0);
    }
    int status, done = 0, rounds = 0;
    while (!(done = waitpid(child, &status, WNOHANG))) {
        kill(child, SIGSTOP);
        usleep(500);
        kill(child, SIGCONT);
        usleep(1000);
        rounds++;
    }
    check(done == child && status == 0, "stopped %d times: status %x", rounds, status);
}

int main(void)
{
    device = open_node();
    test_alarms(SA_RESTART);
    test_alarms(0);
    test_calls_in_handlers();
    test_stopped();
    return print_totals("signals");
}

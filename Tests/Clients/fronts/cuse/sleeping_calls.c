/* SPDX-License-Identifier: Apache-2.0 */
/* A client that keeps 200 calls in the server does not delay another client. */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "../lib/front_client.h"

static int device;

static void *sleep_in_server(void *argument)
{
    (void)argument;
    while (1)
        request(device, TEST_SLEEP, 2000);
    return NULL;
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

int main(void)
{
    pid_t child = fork();

    if (child == 0) {
        pthread_attr_t small;
        pthread_t thread;
        device = open_node();
        pthread_attr_init(&small);
        pthread_attr_setstacksize(&small, 65536);
        for (int i = 0; i < 200; i++)
            pthread_create(&thread, &small, sleep_in_server, NULL);
        pause();
    }
    sleep(1);
    double begin = now(), longest = 0;
    for (int i = 0; i < 10; i++) {
        double start = now();
        int fd = open_node();
        CHECK(request(fd, TEST_ECHO, 1) == 2);
        CHECK(request(fd, TEST_IDENTIFY, fd) > 0);
        int queue = make_queue(fd, false, NULL);
        CHECK(queue >= 0);
        close(queue);
        close(fd);
        if (now() - start > longest)
            longest = now() - start;
    }
    check(longest < 1.5, "a round took %.3f s beside the crowd", longest);
    printf("crowd: 10 rounds in %.3f s, the longest %.3f s\n", now() - begin, longest);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return print_totals("crowd");
}

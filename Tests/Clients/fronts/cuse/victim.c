/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that are killed at random moments while the server works for them.
 *
 *   victim ROUNDS SEED   kills ROUNDS children, then checks that the server has released all their
 *                        files and queues
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "../lib/front_client.h"

static int device;

static void *work(void *argument)
{
    unsigned seed = (unsigned)(long)argument;

    while (1) {
        int queue, other;
        uint32_t id = 0;
        switch (rand_r(&seed) % 6) {
        case 0:
            queue = make_queue(device, false, &id);
            push(device, id, 2, 0);
            poll(&(struct pollfd){queue, POLLIN, 0}, 1, 1);
            if (rand_r(&seed) % 2)
                close(queue);
            break;
        case 1:
            other = open_node();
            request(device, TEST_IDENTIFY, other);
            request(device, TEST_KEEP, other);
            close(other);
            break;
        case 2:
            request(device, TEST_SLEEP, rand_r(&seed) % 4);
            break;
        case 3:
            queue = make_queue(device, false, NULL);
            poll(&(struct pollfd){queue, POLLIN, 0}, 1, 5);
            close(queue);
            break;
        default:
            request(device, TEST_ECHO, 1);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 200, watcher = open_node();
    unsigned seed = argc > 2 ? atoi(argv[2]) : 1;

    for (int i = 0; i < rounds; i++) {
        pid_t child = fork();
        if (child == 0) {
            pthread_t thread;
            device = open_node();
            for (long t = 0; t < 2; t++)
                pthread_create(&thread, NULL, work, (void *)(i * 4 + t));
            work((void *)(long)(i * 4 + 3));
        }
        usleep(rand_r(&seed) % 40000);
        kill(child, SIGKILL);
        int status, waited = 0;
        while (waitpid(child, &status, WNOHANG) == 0 && waited < 1000) {
            usleep(10000);
            waited++;
        }
        check(waited < 1000, "round %d: the child cannot be reaped", i);
        if (waited >= 1000)
            break;
        check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "round %d: status %x", i,
              status);
    }
    struct test_argument argument = {.size = sizeof(argument)};
    for (int i = 0; i < 100; i++) {
        ioctl(watcher, TEST_COUNT_OPEN, &argument);
        if (argument.value == 1 && argument.length == 0)
            break;
        usleep(50000);
    }
    check(argument.value == 1 && argument.length == 0, "left over: %u files, %llu queues",
          argument.value - 1, (unsigned long long)argument.length);
    return print_totals("victim");
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The errnos of a client whose server is killed.
 *
 *   orphan PID   sleeps in a call, kills PID, and checks the errnos
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include "../lib/front_client.h"

static int device, result, number;

static void *sleep_there(void *argument)
{
    (void)argument;
    result = request(device, TEST_SLEEP, 8000);
    number = errno;
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;

    if (argc != 2)
        return 64;
    device = open_node();
    char record[16];
    int queue = make_queue(device, false, NULL);
    CHECK(queue >= 0);
    pthread_create(&thread, NULL, sleep_there, NULL);
    usleep(500000);
    kill(atoi(argv[1]), SIGKILL);
    pthread_join(thread, NULL);
    check(result == -1 && number == ECONNABORTED, "the running call: %d, errno %d", result, number);
    /*
     * fuse_dev_release() aborts running calls before it closes the connection. A call in between is
     * aborted, too.
     */
    int tries = 0;
    while ((result = request(device, TEST_ECHO, 0)) == -1 && errno == ECONNABORTED &&
           ++tries < 100)
        usleep(10000);
    CHECK(result == -1 && errno == ENOTCONN);
    /* Each node has a connection. The kernel closes them one after the other. */
    CHECK(read(queue, record, 16) == -1 && (errno == ENOTCONN || errno == ECONNABORTED));
    struct pollfd entry = {queue, POLLIN, 0};
    CHECK(poll(&entry, 1, 1000) == 1 && entry.revents & POLLERR);
    CHECK(close(queue) == 0);
    CHECK(close(device) == 0);
    CHECK_ERRNO(open(node_path(), O_RDWR), ENOENT);
    return print_totals("orphan");
}

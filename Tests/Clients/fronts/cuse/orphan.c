/* SPDX-License-Identifier: Apache-2.0 */
/* What a client sees when its server is killed:
 *
 *   orphan PID   sleeps in a call, kills PID, and looks at the errnos */
#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include "lib/client.h"

static int device, result, number;

static void *sleep_there(void *argument)
{
    (void)argument;
    result = ask(device, CUSE_TEST_SLEEP, 8000);
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
    int queue = ask(device, CUSE_TEST_QUEUE, 0);
    CHECK(queue >= 0);
    pthread_create(&thread, NULL, sleep_there, NULL);
    usleep(500000);
    kill(atoi(argv[1]), SIGKILL);
    pthread_join(thread, NULL);
    check(result == -1 && number == ECONNABORTED, "the running call: %d, errno %d", result, number);
    /* the kernel ends what is running before it ends the connection (fuse_dev_release()): a call in
     * between is aborted like the running one */
    int tries = 0;
    while ((result = ask(device, CUSE_TEST_ECHO, 0)) == -1 && errno == ECONNABORTED && ++tries < 100)
        usleep(10000);
    CHECK(result == -1 && errno == ENOTCONN);
    /* each node has its own connection; the kernel ends them one after the other */
    CHECK(read(queue, record, 16) == -1 && (errno == ENOTCONN || errno == ECONNABORTED));
    struct pollfd entry = {queue, POLLIN, 0};
    CHECK(poll(&entry, 1, 1000) == 1 && entry.revents & POLLERR);
    CHECK(close(queue) == 0);
    CHECK(close(device) == 0);
    CHECK_ERRNO(open(node(), O_RDWR), ENOENT);
    return finish("orphan");
}

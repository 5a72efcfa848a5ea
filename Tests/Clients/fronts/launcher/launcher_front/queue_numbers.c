/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor numbers of queues, 960 and above, and RLIMIT_NOFILE. */
#include "launcher_front.h"

#include <sys/resource.h>

void test_queue_numbers(void)
{
    int fd = open_node(), queues[64];
    long before = count_open(fd);
    struct rlimit limit, small;

    getrlimit(RLIMIT_NOFILE, &limit);
    CHECK(limit.rlim_cur >= 1024);
    small = (struct rlimit){1024, limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &small);
    for (int i = 0; i < 64; i++) {
        queues[i] = make_queue(fd, false, NULL);
        CHECK(queues[i] == 960 + i);
    }
    CHECK_ERRNO(make_queue(fd, false, NULL), EMFILE);
    close(queues[10]);
    CHECK(make_queue(fd, false, NULL) == 970);
    for (int i = 0; i < 64; i++)
        close(queues[i]);
    small.rlim_cur = 900;
    setrlimit(RLIMIT_NOFILE, &small);
    CHECK_ERRNO(make_queue(fd, false, NULL), EMFILE);
    setrlimit(RLIMIT_NOFILE, &limit);
    CHECK(count_open(fd) == before);
    close(fd);
}

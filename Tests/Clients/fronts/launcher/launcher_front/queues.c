/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors of queues: read, write, poll, epoll, and their number. */
#include "front.h"

static short events(int fd)
{
    struct pollfd poll_ = {fd, POLLIN | POLLOUT | POLLRDNORM, 0};
    return poll(&poll_, 1, 0) < 0 ? -1 : poll_.revents;
}

static bool queue_in_child(int queue)
{
    uint32_t record = 0;
    return read(queue, &record, 4) == 4 && record == 77 && read(queue, &record, 4) == 0;
}

void test_queue(void)
{
    int fd = open_iommu(), before = count_live_files(fd);
    struct test_queue queue = {.flags = 1}, quiet = {0};
    uint32_t records[4] = {0};
    CHECK(ioctl(fd, TEST_MAKE_QUEUE, &queue) == 0 && queue.fd >= 960);
    CHECK(fcntl(queue.fd, F_GETFD) == FD_CLOEXEC && fcntl(queue.fd, F_GETFL) == O_RDWR);
    CHECK(ioctl(fd, TEST_IDENTIFY_OTHER, (long)queue.fd) == TEST_A_QUEUE);
    CHECK_ERRNO(ioctl(queue.fd, TEST_NULL), ENOTTY);
    CHECK(read(queue.fd, records, 4) == 0); /* empty: neither waits nor fails with EAGAIN */
    CHECK(events(queue.fd) == POLLOUT);

    CHECK(push(fd, &queue, 11) == 0 && push(fd, &queue, 12) == 0 && push(fd, &queue, 13) == 0);
    CHECK(events(queue.fd) == (POLLIN | POLLRDNORM | POLLOUT));
    CHECK(read(queue.fd, records, 8) == 8 && records[0] == 11 && records[1] == 12);
    CHECK(events(queue.fd) == (POLLIN | POLLRDNORM | POLLOUT)); /* one record is left */
    fd_set set;
    FD_ZERO(&set);
    FD_SET(queue.fd, &set);
    CHECK(select(queue.fd + 1, &set, NULL, NULL, &(struct timeval){0}) == 1);
    CHECK(read(queue.fd, records, 16) == 4 && records[0] == 13);
    CHECK(events(queue.fd) == POLLOUT && read(queue.fd, records, 16) == 0);
    struct iovec vector[2] = {{&records[0], 4}, {&records[2], 4}};
    CHECK(push(fd, &queue, 21) == 0 && push(fd, &queue, 22) == 0);
    CHECK(readv(queue.fd, vector, 2) == 8 && records[0] == 21 && records[2] == 22);

    int written = ioctl(fd, TEST_WRITTEN);
    uint32_t value = 5;
    CHECK(write(queue.fd, &value, 4) == 4 && ioctl(fd, TEST_WRITTEN) == written + 5);
    CHECK_ERRNO(write(queue.fd, &value, 3), ESPIPE);
    CHECK_ERRNO(read(queue.fd, &value, 3), ESPIPE);
    CHECK_ERRNO(pread(queue.fd, &value, 4, 0), ESPIPE);
    CHECK_ERRNO(lseek(queue.fd, 0, SEEK_SET), ESPIPE);

    CHECK(ioctl(fd, TEST_MAKE_QUEUE, &quiet) == 0 && quiet.fd == queue.fd + 1);
    CHECK(events(quiet.fd) == 0); /* never writable */
    CHECK_ERRNO(write(quiet.fd, &value, 4), EINVAL);
    CHECK(push(fd, &quiet, 31) == 0 && events(quiet.fd) == (POLLIN | POLLRDNORM));
    CHECK(read(quiet.fd, &value, 4) == 4 && events(quiet.fd) == 0);

    /* A queue under another number and in another process. */
    CHECK(push(fd, &queue, 77) == 0 && in_child(queue_in_child, queue.fd));
    CHECK(events(queue.fd) == POLLOUT);
    int high = fcntl(queue.fd, F_DUPFD, 1000), low = dup(queue.fd);
    CHECK(high >= 1000 && low < 960);
    CHECK(push(fd, &queue, 41) == 0 && read(high, &value, 4) == 4 && value == 41);
    errno = 0;
    CHECK(read(low, &value, 4) == -1 && errno == EAGAIN); /* at once, without a byte read */
    CHECK(count_live_files(fd) == before + 2);
    close(queue.fd);
    close(high);
    CHECK(count_live_files(fd) == before + 2);
    close(low);
    CHECK(count_live_files(fd) == before + 1);
    close(quiet.fd);
    CHECK(count_live_files(fd) == before);
    close(fd);
}

void test_epoll(void)
{
    int fd = open_iommu();
    struct test_queue queue = {0};
    CHECK(ioctl(fd, TEST_MAKE_QUEUE, &queue) == 0);
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, queue.fd, &event) == 0);
    CHECK(epoll_wait(epoll, &event, 1, 0) == 0);
    CHECK(push(fd, &queue, 1) == 0 && epoll_wait(epoll, &event, 1, 1000) == 1);
    CHECK(epoll_wait(epoll, &event, 1, 0) == 0);
    CHECK(push(fd, &queue, 2) == 0 && epoll_wait(epoll, &event, 1, 1000) == 1); /* a second edge */
    uint32_t records[2];
    CHECK(read(queue.fd, records, 8) == 8 && epoll_wait(epoll, &event, 1, 0) == 0);
    for (int i = 0; i < 100; i++) { /* more than the socket buffers wake-ups */
        CHECK(push(fd, &queue, i) == 0);
    }
    for (int i = 0; i < 50; i++)
        CHECK(read(queue.fd, records, 8) == 8);
    CHECK(events(queue.fd) == 0);
    close(epoll);
    close(queue.fd);
    close(fd);
}

void test_queue_limits(void)
{
    int fd = open_iommu(), before = count_live_files(fd), queues[64];
    struct test_queue *unwritable =
        mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_ERRNO(ioctl(fd, TEST_MAKE_QUEUE, unwritable), EFAULT);
    CHECK(count_live_files(fd) == before && fcntl(960, F_GETFD) == -1); /* no queue was created */
    munmap(unwritable, 4096);
    struct rlimit limit, small = {0};
    getrlimit(RLIMIT_NOFILE, &limit);
    CHECK(limit.rlim_cur >= 1024);
    small = (struct rlimit){1024, limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &small);
    struct test_queue queue = {0};
    for (int i = 0; i < 64; i++) {
        CHECK(ioctl(fd, TEST_MAKE_QUEUE, &queue) == 0 && queue.fd == 960 + i);
        queues[i] = queue.fd;
    }
    CHECK_ERRNO(ioctl(fd, TEST_MAKE_QUEUE, &queue), EMFILE);
    close(queues[10]);
    CHECK(ioctl(fd, TEST_MAKE_QUEUE, &queue) == 0 && queue.fd == 970);
    for (int i = 0; i < 64; i++)
        close(queues[i]);
    small.rlim_cur = 900;
    setrlimit(RLIMIT_NOFILE, &small);
    CHECK_ERRNO(ioctl(fd, TEST_MAKE_QUEUE, &queue), EMFILE);
    setrlimit(RLIMIT_NOFILE, &limit);
    CHECK(count_live_files(fd) == before);
    close(fd);
}

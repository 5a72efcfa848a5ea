/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors of queues: their number, read, write, poll, epoll and close. */
#include "conformance.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/uio.h>

/** Returns the events that poll(2) reports now, of those that a queue can have. */
static short events(int fd)
{
    struct pollfd entry = {fd, POLLIN | POLLOUT | POLLRDNORM, 0};

    return poll(&entry, 1, 0) < 0 ? -1 : entry.revents;
}

/**
 * A front end differs: the launcher gives a queue a number of 960 or above, because its seccomp
 * filter sees the descriptor numbers of read(2) and write(2) but not their files.
 */
int next_queue_number(int fd)
{
    int number = front() == LAUNCHER ? fcntl(fd, F_DUPFD, 960) : dup(fd);

    close(number);
    return number;
}

static bool queue_in_child(int queue)
{
    struct test_record record = {0};

    return read(queue, &record, 16) == 16 && record.value == 77 && read(queue, &record, 16) == 0;
}

static void test_reads(int fd, int queue, uint32_t id)
{
    struct test_record records[4] = {0};
    struct iovec vector[2] = {{&records[0], 16}, {&records[2], 16}};
    const short readable = POLLIN | POLLRDNORM;

    CHECK(read(queue, records, 16) == 0); /* empty: neither waits nor fails with EAGAIN */
    CHECK(events(queue) == POLLOUT);
    CHECK(push(fd, id, 1, 11) == 0 && push(fd, id, 1, 12) == 0 && push(fd, id, 1, 13) == 0);
    CHECK(events(queue) == (readable | POLLOUT));
    CHECK_ERRNO(read(queue, records, 24), ESPIPE);
    CHECK_ERRNO(read(queue, records, 3), ESPIPE);
    CHECK(read(queue, records, 32) == 32);
    CHECK(records[0].number == 0 && records[0].value == 11);
    CHECK(records[1].number == 1 && records[1].value == 12);
    CHECK(events(queue) == (readable | POLLOUT)); /* one record is left */
    fd_set set;
    FD_ZERO(&set);
    FD_SET(queue, &set);
    CHECK(select(queue + 1, &set, NULL, NULL, &(struct timeval){0}) == 1);
    CHECK(read(queue, records, 64) == 16 && records[0].number == 2 && records[0].value == 13);
    CHECK(events(queue) == POLLOUT && read(queue, records, 64) == 0);
    CHECK(push(fd, id, 1, 21) == 0 && push(fd, id, 1, 22) == 0);
    CHECK(readv(queue, vector, 2) == 32 && records[0].value == 21 && records[2].value == 22);
}

static void test_writes(int fd, int queue, int unwritable)
{
    uint32_t value = 5;
    long written = request(fd, TEST_WRITTEN, 0);

    CHECK(write(queue, &value, 4) == 4 && request(fd, TEST_WRITTEN, 0) == written + 5);
    CHECK_ERRNO(write(queue, &value, 3), ESPIPE);
    CHECK_ERRNO(write(unwritable, &value, 4), EINVAL);
    /*
     * A front end differs: cuse_open() does not make a file a stream, as fuse_finish_open() does.
     * So a CUSE file has a position and pread(2).
     */
    if (front() == LAUNCHER) {
        CHECK_ERRNO(pread(queue, &value, 4, 0), ESPIPE);
        CHECK_ERRNO(lseek(queue, 0, SEEK_SET), ESPIPE);
    }
}

/** A queue under another number and in another process. */
static void test_duplicates(int fd, int queue, uint32_t id, long before)
{
    struct test_record record;

    CHECK(push(fd, id, 1, 77) == 0 && in_child(queue_in_child, queue));
    CHECK(events(queue) == POLLOUT);
    int high = fcntl(queue, F_DUPFD, 1000), low = dup(queue);
    CHECK(high >= 1000 && low < 960);
    CHECK(push(fd, id, 1, 41) == 0 && read(high, &record, 16) == 16 && record.value == 41);
    /*
     * A front end differs: the launcher does not see the read of a number below 960. The program
     * reads the stand-in socket, which fails at once, without a byte read.
     */
    if (front() == LAUNCHER)
        CHECK_ERRNO(read(low, &record, 16), EAGAIN);
    else
        CHECK(read(low, &record, 16) == 0);
    CHECK(count_open(fd) == before);
    close(queue);
    close(high);
    CHECK(count_open(fd) == before);
    close(low);
    CHECK(count_open(fd) == before - 1);
}

void test_queue(void)
{
    int fd = open_node(), number = next_queue_number(fd);
    long before = count_open(fd);
    uint32_t id, quiet_id;
    struct test_record record;

    int queue = make_queue(fd, true, &id);
    check(queue == number, "a queue got descriptor %d, not %d", queue, number);
    CHECK(fcntl(queue, F_GETFD) == FD_CLOEXEC);
    /* A front end differs: open(2) of the CUSE node sets O_LARGEFILE. */
    if (front() == LAUNCHER)
        CHECK(fcntl(queue, F_GETFL) == O_RDWR);
    CHECK((fcntl(queue, F_GETFL) & O_ACCMODE) == O_RDWR);
    CHECK(request(fd, TEST_IDENTIFY, queue) == TEST_A_QUEUE);
    CHECK_ERRNO(ioctl(queue, TEST_NULL, 0), ENOTTY);
    test_reads(fd, queue, id);

    number = next_queue_number(fd);
    int quiet = make_queue(fd, false, &quiet_id);
    CHECK(quiet == number && quiet_id != id);
    CHECK(events(quiet) == 0); /* never writable */
    CHECK(push(fd, quiet_id, 1, 31) == 0 && events(quiet) == (POLLIN | POLLRDNORM));
    CHECK(read(quiet, &record, 16) == 16 && events(quiet) == 0);
    test_writes(fd, queue, quiet);
    CHECK(count_open(fd) == before + 2);
    test_duplicates(fd, queue, id, before + 2);
    close(quiet);
    CHECK(count_open(fd) == before);
    CHECK_ERRNO(push(fd, id, 1, 0), ENOENT);
    close(fd);
}

struct pushed_queue {
    int fd;
    uint32_t id;
};

static void *push_later(void *argument)
{
    struct pushed_queue *pushed = argument;

    usleep(50000);
    push(pushed->fd, pushed->id, 1, 0);
    return NULL;
}

void test_epoll(void)
{
    int fd = open_node();
    struct pushed_queue pushed = {.fd = fd};
    int queue = make_queue(fd, false, &pushed.id);
    struct test_record records[4];
    pthread_t thread;

    /* A push by another thread wakes poll(). */
    struct pollfd entry = {queue, POLLIN, 0};
    pthread_create(&thread, NULL, push_later, &pushed);
    CHECK(poll(&entry, 1, 10000) == 1 && entry.revents == POLLIN);
    pthread_join(thread, NULL);
    CHECK(read(queue, records, 64) == 16);

    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int set = epoll_create1(0);
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, queue, &event) == 0);
    CHECK(epoll_wait(set, &event, 1, 0) == 0);
    CHECK(push(fd, pushed.id, 1, 0) == 0 && epoll_wait(set, &event, 1, 10000) == 1);
    CHECK(epoll_wait(set, &event, 1, 0) == 0);
    /* a second edge without a read before it */
    CHECK(push(fd, pushed.id, 1, 0) == 0 && epoll_wait(set, &event, 1, 10000) == 1);
    CHECK(read(queue, records, 64) == 32 && epoll_wait(set, &event, 1, 0) == 0);
    close(set);
    close(queue);
    close(fd);
}

void test_long_queue(void)
{
    enum { RECORDS = 20000, BYTES = RECORDS * sizeof(struct test_record) };
    int fd = open_node();
    uint32_t id;
    int queue = make_queue(fd, false, &id);
    struct test_record *records = malloc(BYTES);

    /* more wake-ups than the launcher's socket buffers */
    for (int i = 0; i < 100; i++)
        CHECK(push(fd, id, 1, i) == 0);
    for (int i = 0; i < 50; i++) {
        CHECK(read(queue, records, 32) == 32);
        CHECK(records[1].number == 2ul * i + 1 && records[1].value == 2ul * i + 1);
    }
    CHECK(events(queue) == 0);
    /* more than the 128 KiB of a FUSE message in one read */
    CHECK(push(fd, id, RECORDS, 7) == 0);
    CHECK(read(queue, records, BYTES) == BYTES);
    CHECK(records[0].number == 100 && records[0].value == 7);
    CHECK(records[RECORDS - 1].number == RECORDS + 99 && records[RECORDS - 1].value == 7);
    CHECK(events(queue) == 0);
    free(records);
    close(queue);
    close(fd);
}

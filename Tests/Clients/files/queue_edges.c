/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which events epoll(7), poll(2) and select(2) report for a queue: after each new event, a partial
 * read, a read of everything and a response; edge-triggered, one-shot and exclusive, in several
 * sets; and while threads wait.
 */
#include "mock/mock.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>

/** Milliseconds for a report to come. */
enum { SOON = 20 };
/** file_calls.c asks for all events. */
enum { MOST = 0x7fff & ~(POLLWRNORM | POLLWRBAND) };

/** The sets of a queue, by what they ask for. */
static const struct {
    const char *name;
    uint32_t events;
} kinds[] = {
    {"IN", EPOLLIN},
    {"IN|ET", EPOLLIN | EPOLLET},
    {"OUT|ET", EPOLLOUT | EPOLLET},
    {"IN|OUT|ET", EPOLLIN | EPOLLOUT | EPOLLET},
    {"most|ET", MOST | EPOLLET},
    {"PRI|RDHUP|ET", EPOLLPRI | EPOLLRDHUP | EPOLLET},
    {"IN|ONESHOT", EPOLLIN | EPOLLONESHOT},
    {"IN|ET|ONESHOT", EPOLLIN | EPOLLET | EPOLLONESHOT},
    {"IN|ET|EXCLUSIVE", EPOLLIN | EPOLLET | EPOLLEXCLUSIVE},
};

static int sets[COUNT(kinds)];

static void control(const char *what, int operation, int set, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events};

    printf("epoll_ctl %s", what);
    print_result(epoll_ctl(set, operation, fd, &event));
    printf("\n");
}

/** Prints what each set reports. */
static void report(const char *when)
{
    usleep(SOON * 1000);
    printf("%s:", when);
    for (size_t i = 0; i != COUNT(kinds); i++) {
        struct epoll_event events[4];
        int count = epoll_wait(sets[i], events, 4, 0);

        for (int j = 0; j < count; j++)
            printf(" [%s]=%#x", kinds[i].name, events[j].events);
    }
    printf("\n");
}

static void add_to_sets(int fd)
{
    for (size_t i = 0; i != COUNT(kinds); i++) {
        sets[i] = epoll_create1(0);
        control(kinds[i].name, EPOLL_CTL_ADD, sets[i], fd, kinds[i].events);
    }
}

static void close_sets(void)
{
    for (size_t i = 0; i != COUNT(kinds); i++)
        close(sets[i]);
}

static void poll_and_select(int fd)
{
    struct pollfd most = {fd, MOST, 0}, none = {fd, 0, 0};
    struct timeval now = {0, 0};
    fd_set readable, writable, exceptional;

    poll(&most, 1, 0);
    poll(&none, 1, 0);
    printf("poll %#x, of none %#x", most.revents, none.revents);
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_ZERO(&exceptional);
    FD_SET(fd, &readable);
    FD_SET(fd, &writable);
    FD_SET(fd, &exceptional);
    printf(", select %d", select(fd + 1, &readable, &writable, &exceptional, &now));
    printf(" %d%d%d\n", FD_ISSET(fd, &readable) != 0, FD_ISSET(fd, &writable) != 0,
           FD_ISSET(fd, &exceptional) != 0);
}

/* ---- waiting threads ---------------------------------------------------------------------- */

struct waiter {
    int set, edges;
};

/** Counts the reports until none has come for a while. */
static void *count_edges(void *argument)
{
    struct waiter *waiter = argument;
    struct epoll_event event;

    while (epoll_wait(waiter->set, &event, 1, 400) == 1)
        waiter->edges++;
    return NULL;
}

/** Lets two threads wait in two sets, each with the events, while `count` events are made. */
static void wait_in_threads(const char *what, int fd, uint32_t events, uint32_t device, int count,
                            long (*make)(uint32_t device))
{
    struct waiter waiters[2];
    pthread_t threads[2];

    for (int i = 0; i != 2; i++) {
        struct epoll_event event = {.events = events};

        waiters[i] = (struct waiter){epoll_create1(0), 0};
        epoll_ctl(waiters[i].set, EPOLL_CTL_ADD, fd, &event);
        epoll_wait(waiters[i].set, &event, 1, 0);
        pthread_create(&threads[i], NULL, count_edges, &waiters[i]);
    }
    for (int i = 0; i != count; i++) {
        usleep(100000);
        make(device);
    }
    for (int i = 0; i != 2; i++)
        pthread_join(threads[i], NULL);
    printf("waiting for %s: %d edges in all, %s\n", what, waiters[0].edges + waiters[1].edges,
           waiters[0].edges && waiters[1].edges ? "in both" : "in one");
    close(waiters[0].set);
    close(waiters[1].set);
}

static long make_fault(uint32_t device) { return trigger_iopf(device, 0, 0x1000); }

/* ---- queues ------------------------------------------------------------------------------- */

static void test_faults(void)
{
    struct iommu_hwpt_pgfault faults[32] = {0};
    struct iommu_hwpt_page_response response = {0};
    struct mock_device device;
    uint32_t ioas, queue, table;
    int fd = -1;

    ioas = ioas_alloc();
    mock_domain(ioas, &device);
    queue = fault_queue_alloc("queue", &fd);
    table = hwpt_alloc_with(device.idev, ioas, FAULTS, 0, NULL, 0, queue);
    mock_replace(device.stdev, table);
    section("an empty fault queue");
    poll_and_select(fd);
    add_to_sets(fd);
    report("at first");
    report("then");
    section("faults");
    for (int i = 0; i != 3; i++) {
        make_fault(device.idev);
        report("after a fault");
        report("then");
    }
    poll_and_select(fd);
    section("reads");
    read_words(fd, faults, sizeof(faults[0]));
    report("after a read of one");
    read_words(fd, faults, sizeof(faults[0]) - 1);
    report("after a refused read");
    read_words(fd, (void *)8, sizeof(faults[0]));
    report("after a read to bad memory");
    make_fault(device.idev);
    report("after a fault");
    read_words(fd, faults, sizeof(faults));
    report("after a read of all");
    poll_and_select(fd);
    read_words(fd, faults, sizeof(faults));
    report("after a read of nothing");
    section("responses");
    response.cookie = faults[0].cookie;
    write_words(fd, &response, sizeof(response));
    report("after a response");
    write_words(fd, &response, sizeof(response));
    report("after a refused response");
    section("a fault that is read before anyone waits");
    make_fault(device.idev);
    read_words(fd, faults, sizeof(faults));
    report("then");
    section("MOD");
    for (size_t i = 0; i != COUNT(kinds); i++)
        control(kinds[i].name, EPOLL_CTL_MOD, sets[i], fd, kinds[i].events);
    report("of an empty queue");
    make_fault(device.idev);
    report("after a fault");
    for (size_t i = 0; i != COUNT(kinds); i++)
        control(kinds[i].name, EPOLL_CTL_MOD, sets[i], fd, kinds[i].events);
    report("of a queue with a fault");
    section("many faults without a read");
    for (int i = 0; i != 30; i++) {
        printf("%d ", i);
        make_fault(device.idev);
        report("fault");
    }
    read_words(fd, faults, sizeof(faults));
    report("after a read of all");
    make_fault(device.idev);
    report("after a fault");
    section("a copy of the descriptor");
    {
        int copy = fcntl(fd, F_DUPFD, 1000);

        read_words(copy, faults, sizeof(faults));
        report("after a read of the copy");
        make_fault(device.idev);
        report("after a fault");
        poll_and_select(copy);
        close(copy);
    }
    section("faults that a detach drops");
    mock_replace(device.stdev, ioas);
    report("after the detach");
    poll_and_select(fd);
    mock_replace(device.stdev, table);
    report("after the attach");
    make_fault(device.idev);
    report("after a fault");
    read_words(fd, faults, sizeof(faults));
    close_sets();
    section("waiting threads");
    wait_in_threads("IN|ET", fd, EPOLLIN | EPOLLET, device.idev, 3, make_fault);
    wait_in_threads("OUT|ET", fd, EPOLLOUT | EPOLLET, device.idev, 3, make_fault);
    wait_in_threads("IN|ET|EXCLUSIVE", fd, EPOLLIN | EPOLLET | EPOLLEXCLUSIVE, device.idev, 1,
                    make_fault);
    wait_in_threads("OUT|ET|EXCLUSIVE", fd, EPOLLOUT | EPOLLET | EPOLLEXCLUSIVE, device.idev, 1,
                    make_fault);
    close(fd);
}

static void test_events(void)
{
    static unsigned char bytes[4096];
    struct mock_device device;
    uint32_t ioas = ioas_alloc(), parent, viommu;
    int fd = -1;

    mock_domain(ioas, &device);
    parent = hwpt_alloc(device.idev, ioas, NEST);
    viommu = viommu_alloc(device.idev, parent, IOMMU_VIOMMU_TYPE_SELFTEST, NULL, 0);
    vdevice_alloc(viommu, device.idev, 7);
    veventq_alloc("events", viommu, IOMMU_VEVENTQ_TYPE_SELFTEST, 2, &fd);
    mock_replace(device.stdev, nested_alloc(device.idev, viommu, 0, 0));
    section("an empty event queue");
    poll_and_select(fd);
    add_to_sets(fd);
    report("at first");
    section("events, of which two have room");
    for (int i = 0; i != 4; i++) {
        trigger_vevent(device.idev);
        report("after an event");
        report("then");
    }
    poll_and_select(fd);
    section("reads");
    read_words(fd, bytes, 12);
    report("after a read of one");
    trigger_vevent(device.idev);
    report("after an event");
    read_words(fd, bytes, sizeof(bytes));
    report("after a read of all");
    poll_and_select(fd);
    trigger_vevent(device.idev);
    report("after an event");
    section("MOD");
    for (size_t i = 0; i != COUNT(kinds); i++)
        control(kinds[i].name, EPOLL_CTL_MOD, sets[i], fd, kinds[i].events);
    report("of a queue with an event");
    read_words(fd, bytes, sizeof(bytes));
    report("after a read of all");
    close_sets();
    section("waiting threads");
    wait_in_threads("IN|ET", fd, EPOLLIN | EPOLLET, device.idev, 3, trigger_vevent);
    wait_in_threads("OUT|ET", fd, EPOLLOUT | EPOLLET, device.idev, 3, trigger_vevent);
    close(fd);
}

int main(void)
{
    part = "mock";
    begin("the readiness of queues");
    test_faults();
    reopen("events");
    test_events();
    return 0;
}

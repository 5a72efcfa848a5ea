/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The identity of open files: the open file that a descriptor refers to, after dup, fork, exec and
 * SCM_RIGHTS; and the release at the last close in any process.
 */
#include "conformance.h"

#include <sys/socket.h>

#include "passed_fd.h"

static void check_open(int fd, long expected, const char *when)
{
    long open = count_open(fd);

    check(open == expected, "%s: %ld files open in the server, not %ld", when, open, expected);
}

static bool same_in_child(int fd)
{
    long id = open_id(fd);
    int own = open_node();

    return id > 0 && open_id(own) > 0 && open_id(own) != id && open_id(fd) == id;
}

/** Executes this program, which checks that the descriptor still refers to the same open file. */
static bool same_after_exec(int fd)
{
    char number[16], id[24];

    snprintf(number, sizeof(number), "%d", fd);
    snprintf(id, sizeof(id), "%ld", open_id(fd));
    execl(self, self, "check-id", number, id, NULL);
    return false;
}

/** A forked process keeps a file open that this process closes. */
static void test_fork(int fd, int copy, long before)
{
    int exits[2];

    CHECK(pipe(exits) == 0);
    pid_t child = fork();
    if (child == 0) {
        char go;
        close(exits[1]);
        _exit(read(exits[0], &go, 1) != 0);
    }
    close(copy);
    check_open(fd, before, "while a forked process has it");
    close(exits[1]);
    CHECK(wait_for(child) == 0);
    close(exits[0]);
    check_open(fd, before - 1, "after the last close");
}

static void test_passing(int fd)
{
    int pair[2], sent = open_node();
    long id = open_id(sent), before = count_open(fd);

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(send_fd(pair[0], sent));
    close(sent);
    check_open(fd, before, "while a descriptor is in flight");
    int received = receive_fd(pair[1]);
    CHECK(open_id(received) == id);
    close(received);
    check_open(fd, before - 1, "after the close of a received descriptor");
    CHECK_ERRNO(open_id(received), EBADF);
    close(pair[0]);
    close(pair[1]);
}

void test_identity(void)
{
    int a = open_node(), b = open_node();
    long id = open_id(a), other = open_id(b), before = count_open(b);

    CHECK(id > 0 && other > 0 && id != other);
    CHECK(fcntl(a, F_GETFD) == FD_CLOEXEC);
    CHECK((fcntl(a, F_GETFL) & O_ACCMODE) == O_RDWR);

    int copy = dup(a);
    CHECK(open_id(copy) == id);
    CHECK(dup2(a, 700) == 700 && open_id(700) == id);
    close(a);
    close(700);
    check_open(b, before, "while the dup is open");
    CHECK(open_id(copy) == id);
    CHECK(in_child(same_in_child, copy));
    CHECK(in_child(same_after_exec, copy)); /* dup() has cleared FD_CLOEXEC */
    test_fork(b, copy, before);
    test_passing(b);
    close(b);
}

static bool leave_open(int fd)
{
    open_node();
    open_offsets_node();
    return count_open(fd) > 2;
}

void test_release(void)
{
    int fd = open_node();
    long before = count_open(fd);

    for (int i = 0; i < 200; i++) {
        int other = open_node();
        CHECK(count_open(fd) == before + 1);
        close(other);
        CHECK(count_open(fd) == before);
    }
    /*
     * The exit of a process closes its files, too. The server releases them before it answers the
     * next call.
     */
    CHECK(in_child(leave_open, fd));
    CHECK(count_open(fd) == before);
    close(fd);
}

/**
 * Identifies a number several times, so that the server caches its file, and then gives the number
 * to another file.
 */
void test_numbers(void)
{
    int fd = open_node(), first = open_node(), second = open_node();
    int null = open("/dev/null", O_RDWR), number = dup(first);
    long first_id = open_id(first), second_id = open_id(second), before = count_open(fd);

    for (int i = 0; i < 10; i++)
        CHECK(request(fd, TEST_IDENTIFY, number) == first_id);
    CHECK(dup2(second, number) == number);
    for (int i = 0; i < 10; i++) {
        CHECK(request(fd, TEST_IDENTIFY, number) == second_id);
        CHECK(request(fd, TEST_IDENTIFY, first) == first_id);
    }
    /* The first file is still open under another number. */
    CHECK(dup2(null, number) == number);
    CHECK_ERRNO(request(fd, TEST_IDENTIFY, number), ENODEV);
    close(number);
    CHECK_ERRNO(request(fd, TEST_IDENTIFY, number), EBADF);

    /* the same number for two files in two processes */
    CHECK(dup2(first, number) == number);
    pid_t child = fork();
    if (child == 0) {
        dup2(second, number);
        for (int i = 0; i < 50; i++)
            if (request(fd, TEST_IDENTIFY, number) != second_id)
                _exit(1);
        _exit(0);
    }
    for (int i = 0; i < 50; i++)
        CHECK(request(fd, TEST_IDENTIFY, number) == first_id);
    CHECK(wait_for(child) == 0);
    close(number);

    /* The server's cache does not keep files open. */
    check_open(fd, before, "with two known files");
    close(second);
    check_open(fd, before - 1, "after the close of a known file");
    int next = open_node();
    CHECK(next == second);
    long next_id = open_id(next);
    CHECK(next_id != second_id && request(fd, TEST_IDENTIFY, next) == next_id);
    close(next);
    close(first);
    close(null);
    close(fd);
}

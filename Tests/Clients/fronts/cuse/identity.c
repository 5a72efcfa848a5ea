/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The identity of open files: file descriptors by open, dup, fork, exec and SCM_RIGHTS, the file
 * that the server finds for a descriptor number, and the release at the last close in any process.
 */
#include <sys/socket.h>
#include <sys/wait.h>

#include "passed_fd.h"
#include "lib/client.h"

static void check_alive(int fd, unsigned expected, const char *when)
{
    long files = request(fd, CUSE_TEST_ALIVE, 0);

    check(files == (long)expected, "%s: %ld files open in the server, not %u", when, files,
          expected);
}

static int wait_for(pid_t child)
{
    int status = -1;

    waitpid(child, &status, 0);
    return status;
}

/**
 * Identifies a number several times, so that the server caches its file, and then gives the number
 * to another file.
 */
static void change_numbers(int fd)
{
    int first = open_node(), second = open_node(), null = open("/dev/null", O_RDWR);
    long first_id = request(first, CUSE_TEST_OPEN_ID, 0),
         second_id = request(second, CUSE_TEST_OPEN_ID, 0);
    int number = dup(first);

    for (int i = 0; i < 10; i++)
        CHECK(request(fd, CUSE_TEST_IDENTIFY, number) == first_id);
    CHECK(dup2(second, number) == number);
    for (int i = 0; i < 10; i++) {
        CHECK(request(fd, CUSE_TEST_IDENTIFY, number) == second_id);
        CHECK(request(fd, CUSE_TEST_IDENTIFY, first) == first_id);
    }
    /* The first file is still open under another number. */
    CHECK(dup2(null, number) == number);
    CHECK_ERRNO(request(fd, CUSE_TEST_IDENTIFY, number), ENODEV);
    close(number);
    CHECK_ERRNO(request(fd, CUSE_TEST_IDENTIFY, number), EBADF);

    /* the same number for two files in two processes */
    CHECK(dup2(first, number) == number);
    pid_t child = fork();
    if (child == 0) {
        dup2(second, number);
        for (int i = 0; i < 50; i++)
            if (request(fd, CUSE_TEST_IDENTIFY, number) != second_id)
                _exit(1);
        _exit(0);
    }
    for (int i = 0; i < 50; i++)
        CHECK(request(fd, CUSE_TEST_IDENTIFY, number) == first_id);
    CHECK(wait_for(child) == 0);
    close(number);

    /* The server's cache does not keep files open. */
    check_alive(fd, 4, "with two known files");
    close(second);
    check_alive(fd, 3, "after the close of a known file");
    int next = open_node();
    CHECK(next == second);
    long next_id = request(next, CUSE_TEST_OPEN_ID, 0);
    CHECK(next_id != second_id && request(fd, CUSE_TEST_IDENTIFY, next) == next_id);
    close(next);
    close(first);
    close(null);
}

int main(int argc, char **argv)
{
    if (argc == 3) /* executed by the exec test below */
        return request(atoi(argv[1]), CUSE_TEST_OPEN_ID, 0) != atol(argv[2]);

    int a = open_node(), b = open_node();
    long id = request(a, CUSE_TEST_OPEN_ID, 0), other = request(b, CUSE_TEST_OPEN_ID, 0);
    CHECK(id > 0 && other > 0 && id != other);

    int copy = dup(a);
    CHECK(request(copy, CUSE_TEST_OPEN_ID, 0) == id);
    CHECK(request(b, CUSE_TEST_IDENTIFY, a) == id);
    CHECK(request(b, CUSE_TEST_IDENTIFY, copy) == id);
    CHECK(request(b, CUSE_TEST_IDENTIFY, b) == other);
    int queue = request(a, CUSE_TEST_QUEUE, 0);
    CHECK(request(b, CUSE_TEST_IDENTIFY, queue) == 0xffffffff);
    int null = open("/dev/null", O_RDWR), pipes[2];
    CHECK(pipe(pipes) == 0);
    CHECK_ERRNO(request(b, CUSE_TEST_IDENTIFY, null), ENODEV);
    CHECK_ERRNO(request(b, CUSE_TEST_IDENTIFY, pipes[0]), ENODEV);
    CHECK_ERRNO(request(b, CUSE_TEST_IDENTIFY, 999), EBADF);
    CHECK_ERRNO(request(b, CUSE_TEST_IDENTIFY, -1), EBADF);
    CHECK_ERRNO(ioctl(a, 0x5349, 0), ENOTTY); /* a private request of the server */
    check_alive(b, 2, "after two opens");
    change_numbers(b);
    check_alive(b, 2, "after numbers have changed");

    close(a);
    check_alive(b, 2, "while the dup is open");
    pid_t child = fork();
    if (child == 0)
        _exit(request(copy, CUSE_TEST_OPEN_ID, 0) != id);
    CHECK(wait_for(child) == 0);

    int exits[2];
    CHECK(pipe(exits) == 0);
    child = fork();
    if (child == 0) {
        char go;
        close(exits[1]);
        _exit(read(exits[0], &go, 1) != 0);
    }
    close(copy);
    check_alive(b, 2, "while a forked process has it");
    close(exits[1]);
    CHECK(wait_for(child) == 0);
    check_alive(b, 1, "after the last close");
    close(queue);

    /* exec keeps file descriptors without FD_CLOEXEC */
    fcntl(b, F_SETFD, 0);
    child = fork();
    if (child == 0) {
        char fd[16], number[16];
        snprintf(fd, sizeof(fd), "%d", b);
        snprintf(number, sizeof(number), "%ld", other);
        execl(argv[0], argv[0], fd, number, NULL);
        _exit(99);
    }
    CHECK(wait_for(child) == 0);

    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    int sent = open_node();
    long sent_id = request(sent, CUSE_TEST_OPEN_ID, 0);
    CHECK(send_fd(pair[0], sent));
    close(sent);
    check_alive(b, 2, "while a descriptor is in flight");
    int received = receive_fd(pair[1]);
    CHECK(request(received, CUSE_TEST_OPEN_ID, 0) == sent_id);

    /*
     * A device that keeps a file of its own server does not keep the file open, however long the
     * chain is.
     */
    int chain[300];
    chain[0] = received;
    for (int i = 1; i < 300; i++) {
        chain[i] = open_node();
        CHECK(request(chain[i], CUSE_TEST_KEEP, chain[i - 1]) >= 0);
        close(chain[i - 1]);
    }
    for (int i = 0; i < 400 && request(b, CUSE_TEST_ALIVE, 0) != 2; i++)
        usleep(50000);
    check_alive(b, 2, "with the end of a chain of files");
    close(chain[299]);
    for (int i = 0; i < 400 && request(b, CUSE_TEST_ALIVE, 0) != 1; i++)
        usleep(50000);
    check_alive(b, 1, "after the chain");
    return print_totals("identity");
}

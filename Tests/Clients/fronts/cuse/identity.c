/* SPDX-License-Identifier: Apache-2.0 */
/* Which open is which: descriptors made by open, dup, fork, exec and SCM_RIGHTS, what the server finds
 * behind a descriptor number, and that the last close, wherever it is, releases once and at once. */
#include <sys/wait.h>

#include "passed_fd.h"
#include "lib/client.h"

static void alive(int fd, unsigned expected, const char *when)
{
    long files = ask(fd, CUSE_TEST_ALIVE, 0);

    check(files == (long)expected, "%s: %ld files open in the server, not %u", when, files,
          expected);
}

static int wait_for(pid_t child)
{
    int status = -1;

    waitpid(child, &status, 0);
    return status;
}

/* A number is asked about again and again, so that the server knows its file, and becomes another file's. */
static void change_numbers(int fd)
{
    int first = open_node(), second = open_node(), null = open("/dev/null", O_RDWR);
    long first_id = ask(first, CUSE_TEST_OPEN_ID, 0), second_id = ask(second, CUSE_TEST_OPEN_ID, 0);
    int number = dup(first);

    for (int i = 0; i < 10; i++)
        CHECK(ask(fd, CUSE_TEST_IDENTIFY, number) == first_id);
    CHECK(dup2(second, number) == number);
    for (int i = 0; i < 10; i++) {
        CHECK(ask(fd, CUSE_TEST_IDENTIFY, number) == second_id);
        CHECK(ask(fd, CUSE_TEST_IDENTIFY, first) == first_id);
    }
    /* the file stays open elsewhere: its old number says nothing */
    CHECK(dup2(null, number) == number);
    CHECK_ERRNO(ask(fd, CUSE_TEST_IDENTIFY, number), ENODEV);
    close(number);
    CHECK_ERRNO(ask(fd, CUSE_TEST_IDENTIFY, number), EBADF);

    /* the same number in two processes at a time */
    CHECK(dup2(first, number) == number);
    pid_t child = fork();
    if (child == 0) {
        dup2(second, number);
        for (int i = 0; i < 50; i++)
            if (ask(fd, CUSE_TEST_IDENTIFY, number) != second_id)
                _exit(1);
        _exit(0);
    }
    for (int i = 0; i < 50; i++)
        CHECK(ask(fd, CUSE_TEST_IDENTIFY, number) == first_id);
    CHECK(wait_for(child) == 0);
    close(number);

    /* being known keeps no file open */
    alive(fd, 4, "with two known files");
    close(second);
    alive(fd, 3, "after the close of a known file");
    int next = open_node();
    CHECK(next == second);
    long next_id = ask(next, CUSE_TEST_OPEN_ID, 0);
    CHECK(next_id != second_id && ask(fd, CUSE_TEST_IDENTIFY, next) == next_id);
    close(next);
    close(first);
    close(null);
}

int main(int argc, char **argv)
{
    if (argc == 3) /* the second half of the exec test */
        return ask(atoi(argv[1]), CUSE_TEST_OPEN_ID, 0) != atol(argv[2]);

    int a = open_node(), b = open_node();
    long id = ask(a, CUSE_TEST_OPEN_ID, 0), other = ask(b, CUSE_TEST_OPEN_ID, 0);
    CHECK(id > 0 && other > 0 && id != other);

    int copy = dup(a);
    CHECK(ask(copy, CUSE_TEST_OPEN_ID, 0) == id);
    CHECK(ask(b, CUSE_TEST_IDENTIFY, a) == id);
    CHECK(ask(b, CUSE_TEST_IDENTIFY, copy) == id);
    CHECK(ask(b, CUSE_TEST_IDENTIFY, b) == other);
    int queue = ask(a, CUSE_TEST_QUEUE, 0);
    CHECK(ask(b, CUSE_TEST_IDENTIFY, queue) == 0xffffffff);
    int null = open("/dev/null", O_RDWR), pipes[2];
    CHECK(pipe(pipes) == 0);
    CHECK_ERRNO(ask(b, CUSE_TEST_IDENTIFY, null), ENODEV);
    CHECK_ERRNO(ask(b, CUSE_TEST_IDENTIFY, pipes[0]), ENODEV);
    CHECK_ERRNO(ask(b, CUSE_TEST_IDENTIFY, 999), EBADF);
    CHECK_ERRNO(ask(b, CUSE_TEST_IDENTIFY, -1), EBADF);
    CHECK_ERRNO(ioctl(a, 0x5349, 0), ENOTTY); /* the server's private question */
    alive(b, 2, "after two opens");
    change_numbers(b);
    alive(b, 2, "after numbers have changed");

    close(a);
    alive(b, 2, "while the dup is open");
    pid_t child = fork();
    if (child == 0)
        _exit(ask(copy, CUSE_TEST_OPEN_ID, 0) != id);
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
    alive(b, 2, "while a forked process has it");
    close(exits[1]);
    CHECK(wait_for(child) == 0);
    alive(b, 1, "after the last close");
    close(queue);

    /* exec keeps what is not close-on-exec */
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
    long sent_id = ask(sent, CUSE_TEST_OPEN_ID, 0);
    CHECK(send_fd(pair[0], sent));
    close(sent);
    alive(b, 2, "while a descriptor is in flight");
    int received = receive_fd(pair[1]);
    CHECK(ask(received, CUSE_TEST_OPEN_ID, 0) == sent_id);

    /* A device that is to keep a file of this server does not keep it open, however long the chain. */
    int chain[300];
    chain[0] = received;
    for (int i = 1; i < 300; i++) {
        chain[i] = open_node();
        CHECK(ask(chain[i], CUSE_TEST_KEEP, chain[i - 1]) >= 0);
        close(chain[i - 1]);
    }
    for (int i = 0; i < 400 && ask(b, CUSE_TEST_ALIVE, 0) != 2; i++)
        usleep(50000);
    alive(b, 2, "with the end of a chain of files");
    close(chain[299]);
    for (int i = 0; i < 400 && ask(b, CUSE_TEST_ALIVE, 0) != 1; i++)
        usleep(50000);
    alive(b, 1, "after the chain");
    return finish("identity");
}

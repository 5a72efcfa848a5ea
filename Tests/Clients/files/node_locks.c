/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flock(2) and locks of open files (F_OFD_SETLK) between open files of one node, of two nodes and
 * of a queue.
 */
#include "nodes.h"
#include "transcript/hwpt.h"

#include <sys/file.h>
#include <sys/wait.h>

#define CALL(what, call)                                                                           \
    do {                                                                                           \
        printf("%s", what);                                                                        \
        print_result(call);                                                                        \
        printf("\n");                                                                              \
    } while (0)

static int open_file(int command, int fd, int type, off_t start, off_t length)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    int result = fcntl(fd, command, &lock);

    if (command == F_OFD_GETLK && result == 0)
        printf(" type=%d start=%ld length=%ld pid=%d", lock.l_type, (long)lock.l_start,
               (long)lock.l_len, lock.l_pid);
    return result;
}

int main(void)
{
    int first, second, reader;

    begin("locks of a node");
    first = open(iommufd_path(), O_RDWR);
    second = open(iommufd_path(), O_RDWR);
    reader = open(iommufd_path(), O_RDONLY);
    section("flock");
    CALL("first SH", flock(first, LOCK_SH | LOCK_NB));
    CALL("second SH", flock(second, LOCK_SH | LOCK_NB));
    CALL("first EX", flock(first, LOCK_EX | LOCK_NB));
    CALL("second UN", flock(second, LOCK_UN));
    CALL("first EX", flock(first, LOCK_EX | LOCK_NB));
    CALL("second SH", flock(second, LOCK_SH | LOCK_NB));
    CALL("reader EX", flock(reader, LOCK_EX | LOCK_NB));
    CALL("second, nothing", flock(second, 0));
    CALL("second, both", flock(second, LOCK_SH | LOCK_EX));
    CALL("a number that is not open", flock(777, LOCK_SH));
    section("a lock ends with the last descriptor");
    {
        int copy = dup(first);

        close(first);
        CALL("second EX", flock(second, LOCK_EX | LOCK_NB));
        close(copy);
    }
    CALL("second EX", flock(second, LOCK_EX | LOCK_NB));
    section("a lock that is waited for");
    first = open(iommufd_path(), O_RDWR);
    fflush(stdout);
    if (fork() == 0) {
        usleep(50000);
        flock(second, LOCK_UN);
        _exit(0);
    }
    CALL("first EX", flock(first, LOCK_EX));
    wait(NULL);
    CALL("first UN", flock(first, LOCK_UN));
    section("locks of open files");
    CALL("first writes 0-9", open_file(F_OFD_SETLK, first, F_WRLCK, 0, 10));
    CALL("second reads 5-6", open_file(F_OFD_SETLK, second, F_RDLCK, 5, 2));
    CALL("second gets 5-6", open_file(F_OFD_GETLK, second, F_RDLCK, 5, 2));
    CALL("second writes 10-19", open_file(F_OFD_SETLK, second, F_WRLCK, 10, 10));
    CALL("first gets all", open_file(F_OFD_GETLK, first, F_WRLCK, 0, 0));
    CALL("reader reads 30", open_file(F_OFD_SETLK, reader, F_RDLCK, 30, 1));
    CALL("reader writes 40", open_file(F_OFD_SETLK, reader, F_WRLCK, 40, 1));
    CALL("first writes 30", open_file(F_OFD_SETLK, first, F_WRLCK, 30, 1));
    CALL("a bad type", open_file(F_OFD_SETLK, first, 9, 0, 1));
    CALL("bad memory", fcntl(first, F_OFD_SETLK, (void *)8));
    close(second);
    CALL("first writes 10-19", open_file(F_OFD_SETLK, first, F_WRLCK, 10, 10));
    CALL("first unlocks", open_file(F_OFD_SETLK, first, F_UNLCK, 0, 0));
    CALL("reader gets all", open_file(F_OFD_GETLK, reader, F_RDLCK, 0, 0));
    return 0;
}

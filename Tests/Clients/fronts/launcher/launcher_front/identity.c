/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which open file a descriptor is, after fork, exec and SCM_RIGHTS; and the release at the last
 * close.
 */
#include "front.h"

#include "passed_fd.h"

static bool same_in_child(int fd)
{
    int id = identify(fd), own = open_iommu();
    return id > 0 && own >= 0 && identify(own) > 0 && identify(own) != id && identify(fd) == id;
}

static bool same_after_exec(int fd)
{
    char number[16], id[16];
    snprintf(number, sizeof number, "%d", fd);
    snprintf(id, sizeof id, "%d", identify(fd));
    execl(self, self, "check-id", number, id, NULL);
    return false;
}

void test_identity(void)
{
    int a = open_iommu(), b = open_iommu();
    CHECK(a >= 0 && b >= 0 && identify(a) > 0 && identify(b) > 0 && identify(a) != identify(b));
    CHECK(fcntl(a, F_GETFD) == FD_CLOEXEC);
    CHECK((fcntl(a, F_GETFL) & O_ACCMODE) == O_RDWR);
    int id = identify(a), copy = dup(a);
    CHECK(identify(copy) == id);
    CHECK(dup2(a, 700) == 700 && identify(700) == id);
    close(a);
    close(700);
    CHECK(identify(copy) == id);
    CHECK(in_child(same_in_child, copy));
    CHECK(in_child(same_after_exec, copy));

    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    int before = count_live_files(b);
    CHECK(send_fd(pair[0], copy));
    close(copy);
    CHECK(count_live_files(b) == before); /* the open file is in flight */
    int received = receive_fd(pair[1]);
    CHECK(identify(received) == id);
    close(received);
    CHECK(count_live_files(b) == before - 1);
    CHECK_ERRNO(identify(received), EBADF);
    close(pair[0]);
    close(pair[1]);
    close(b);
}

static bool leave_open(int fd)
{
    return open_iommu() >= 0 && open_iommu() >= 0 && count_live_files(fd) > 2;
}

void test_release(void)
{
    int fd = open_iommu(), before = count_live_files(fd);
    for (int i = 0; i < 200; i++) {
        int other = open_iommu();
        CHECK(count_live_files(fd) == before + 1);
        close(other);
        CHECK(count_live_files(fd) == before);
    }
    /*
     * The exit of a process closes its files, too. The server releases them before it answers the
     * next call.
     */
    CHECK(in_child(leave_open, fd));
    CHECK(count_live_files(fd) == before);
    close(fd);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "passed_fd.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

union passed_fd {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
};

bool send_fd(int socket, int fd)
{
    union passed_fd control = {{CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec vector = {"x", 1};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};

    memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    return sendmsg(socket, &message, 0) == 1;
}

int receive_fd(int socket)
{
    union passed_fd control;
    char byte;
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    int fd = -1;

    if (recvmsg(socket, &message, 0) == 1 && CMSG_FIRSTHDR(&message))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    return fd;
}

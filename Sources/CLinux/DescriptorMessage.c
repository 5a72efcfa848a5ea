// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "DescriptorMessage.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

// Space for one SCM_RIGHTS message with one descriptor, with the alignment of struct cmsghdr.
union control {
  struct cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

long send_message(int socket, const void *body, size_t size, int descriptor) {
  struct iovec vector = {(void *)body, size};
  union control control = {0};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (descriptor >= 0) {
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
  }
  ssize_t count = sendmsg(socket, &message, MSG_NOSIGNAL);
  return count < 0 ? -errno : count;
}

long receive_message(int socket, void *body, size_t size, int *descriptor) {
  struct iovec vector = {body, size};
  union control control = {0};
  struct msghdr message = {
      .msg_iov = &vector,
      .msg_iovlen = 1,
      .msg_control = &control,
      .msg_controllen = sizeof control,
  };
  *descriptor = -1;
  ssize_t count;
  do count = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (count < 0 && errno == EINTR);
  if (count < 0) return -errno;
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header != NULL && header->cmsg_type == SCM_RIGHTS)
    memcpy(descriptor, CMSG_DATA(header), sizeof *descriptor);
  return count;
}

#define _GNU_SOURCE
#include "CLinuxTrace.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static long result(long value) { return value < 0 ? -errno : value; }

long CLinux_ptrace(int request, pid_t task, uint64_t address, uint64_t data) {
  // Not glibc's ptrace(), which hides the PEEK requests' data behind errno.
  return result(syscall(SYS_ptrace, (long)request, (long)task, address, data));
}

int CLinux_send_descriptor(int socket, int descriptor) {
  char byte = 0;
  struct iovec payload = {&byte, 1};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct msghdr message = {
      .msg_iov = &payload, .msg_iovlen = 1,
      .msg_control = &control, .msg_controllen = sizeof control};
  control.header.cmsg_level = SOL_SOCKET;
  control.header.cmsg_type = SCM_RIGHTS;
  control.header.cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
  return result(sendmsg(socket, &message, MSG_NOSIGNAL));
}

void CLinux_set_thread_name(const char *name) { prctl(PR_SET_NAME, name, 0UL, 0UL, 0UL); }

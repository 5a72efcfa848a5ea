// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CLinuxTrace.h"
#include "DescriptorMessage.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static long result(long value) { return value < 0 ? -errno : value; }

long CLinux_ptrace(int request, pid_t task, uint64_t address, uint64_t data) {
  // glibc's ptrace() returns the data of PEEK requests as its result, so that errors show in errno
  // only.
  return result(syscall(SYS_ptrace, (long)request, (long)task, address, data));
}

long CLinux_syscall(long number, const uint64_t *arguments) {
  return result(syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
                        arguments[4], arguments[5]));
}

int CLinux_send_descriptor(int socket, int descriptor) {
  char byte = 0;
  return (int)send_message(socket, &byte, 1, descriptor);
}

void CLinux_set_thread_name(const char *name) { prctl(PR_SET_NAME, name, 0UL, 0UL, 0UL); }

int CLinux_receive_descriptor(int socket) {
  char byte;
  int descriptor;
  long count = receive_message(socket, &byte, 1, &descriptor);
  if (count < 0) return (int)count;
  if (count == 0) return -ENOTCONN;
  return descriptor >= 0 ? descriptor : -EBADMSG;
}

pid_t CLinux_fork_helper(int descriptor, void (*body)(int)) {
  pid_t child = fork();
  if (child != 0) return child < 0 ? -errno : child;
  setsid();
  if (dup2(descriptor, 3) < 0) _exit(1);
  close_range(4, ~0U, 0);
  int null = open("/dev/null", O_RDWR);
  for (int standard = 0; null >= 0 && standard < 3; standard++) dup2(null, standard);
  if (null > 3) close(null);
  if (chdir("/") < 0) _exit(1);
  body(3);
  _exit(0);
}

// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CLinuxSpawn.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

// Space for one SCM_RIGHTS message with one descriptor, with the alignment of struct cmsghdr.
union control {
  struct cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

static int report(int socket, enum CLinux_spawn_stage stage, int error, int descriptor) {
  struct CLinux_spawn_report body = {stage, error};
  struct iovec vector = {&body, sizeof body};
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
  return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static _Noreturn void run_child(const struct CLinux_spawn *spawn) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < spawn->descriptor_limit) {
    limit.rlim_cur =
        limit.rlim_max < spawn->descriptor_limit ? limit.rlim_max : spawn->descriptor_limit;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  // A process without CAP_SYS_ADMIN may install a filter only with no_new_privs set (seccomp(2)).
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
    report(spawn->reports, CLinux_spawn_privileges, errno, -1);
    _exit(125);
  }
  struct sock_fprog program = {spawn->filter_length, spawn->filter};
  // WAIT_KILLABLE_RECV: once the supervisor has received the call, only a fatal signal ends the
  // wait. Without the flag any signal would restart a call that the supervisor has executed already
  // (seccomp_unotify(2)).
  unsigned long flags =
      SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
  int listener = syscall(SYS_seccomp, (unsigned long)SECCOMP_SET_MODE_FILTER, flags, &program);
  if (listener < 0) {
    report(spawn->reports, CLinux_spawn_filter, errno, -1);
    _exit(125);
  }
  if (report(spawn->reports, CLinux_spawn_listening, 0, listener) < 0) _exit(125);
  close(listener);
  sigprocmask(SIG_SETMASK, &spawn->signal_mask, NULL);
  execvpe(spawn->program, spawn->arguments, environ);
  int error = errno;
  report(spawn->reports, CLinux_spawn_exec, error, -1);
  _exit(error == ENOENT ? 127 : 126);
}

pid_t CLinux_spawn_filtered(const struct CLinux_spawn *spawn) {
  pid_t child = fork();
  if (child < 0) return -errno;
  if (child == 0) run_child(spawn);
  return child;
}

int CLinux_spawn_receive(int socket, struct CLinux_spawn_report *body, int *descriptor) {
  struct iovec vector = {body, sizeof *body};
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
  if (count == 0) return 0;
  if (count != sizeof *body) return -EPROTO;
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header != NULL && header->cmsg_type == SCM_RIGHTS)
    memcpy(descriptor, CMSG_DATA(header), sizeof *descriptor);
  return 1;
}

pid_t CLinux_siginfo_pid(const siginfo_t *information) { return information->si_pid; }
int CLinux_siginfo_status(const siginfo_t *information) { return information->si_status; }

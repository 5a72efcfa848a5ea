// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CLinuxSpawn.h"
#include "CLinuxStart.h"
#include "DescriptorMessage.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

static int report(int socket, enum CLinux_spawn_stage stage, int error, int descriptor) {
  struct CLinux_spawn_report body = {stage, error};
  long sent = send_message(socket, &body, sizeof body, descriptor);
  return sent < 0 ? (int)sent : 0;
}

static _Noreturn void run_child(const struct CLinux_spawn *spawn) {
  CLinux_restore_inherited();
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
  long count = receive_message(socket, body, sizeof *body, descriptor);
  if (count <= 0) return (int)count;
  return count == sizeof *body ? 1 : -EPROTO;
}

pid_t CLinux_siginfo_pid(const siginfo_t *information) { return information->si_pid; }
int CLinux_siginfo_status(const siginfo_t *information) { return information->si_status; }

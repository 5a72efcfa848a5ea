// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CLinuxPaths.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)

static long trace(int request, pid_t task, unsigned long address, unsigned long data) {
  return syscall(SYS_ptrace, request, task, address, data) < 0 ? -errno : 0;
}

// Waits for the next stop of the thread. Returns -ESRCH when the thread has ended, and has then
// reaped it, because nobody else can.
static int await_stop(pid_t task) {
  int status;
  while (waitpid(task, &status, __WALL) < 0)
    if (errno != EINTR) return -errno;
  return WIFSTOPPED(status) ? 0 : -ESRCH;
}

// Makes the stopped thread execute one system call with one argument.
static long call(pid_t task, struct user_regs_struct registers, long number, unsigned long argument) {
  registers.rip -= 2;
  registers.rax = number;
  registers.rdi = argument;
  // No restart logic for the call that the thread returned from.
  registers.orig_rax = -1UL;
  if (trace(PTRACE_SETREGS, task, 0, (unsigned long)&registers) < 0) return -ESRCH;
  for (int stop = 0; stop < 2; stop++) {
    if (trace(PTRACE_SYSCALL, task, 0, 0) < 0) return -ESRCH;
    if (await_stop(task) < 0) return -ESRCH;
  }
  if (trace(PTRACE_GETREGS, task, 0, (unsigned long)&registers) < 0) return -ESRCH;
  return registers.rax;
}

// What the tracing process does. It writes one int, 0 or -errno, when the thread has been seized.
static void run(pid_t task, int directory, int report) {
  int failure = trace(PTRACE_SEIZE, task, 0, PTRACE_O_TRACESYSGOOD);
  // The thread waits for the answer to its call, so it stops only when it has the answer.
  if (failure == 0) trace(PTRACE_INTERRUPT, task, 0, 0);
  syscall(SYS_write, report, &failure, sizeof failure);
  if (failure < 0 || await_stop(task) < 0) return;
  struct user_regs_struct registers;
  uint16_t instruction = 0;
  struct iovec local = {&instruction, sizeof instruction}, remote = {0, sizeof instruction};
  long result = -EACCES;
  uint64_t mask, all = ~0UL;
  if (trace(PTRACE_GETREGS, task, 0, (unsigned long)&registers) < 0) return;
  remote.iov_base = (void *)(registers.rip - 2);
  // The "syscall" instruction, by which the thread made its call.
  if (process_vm_readv(task, &local, 1, &remote, 1, 0) == 2 && instruction == 0x050f) {
    // Signals stay pending meanwhile.
    trace(PTRACE_GETSIGMASK, task, sizeof mask, (unsigned long)&mask);
    trace(PTRACE_SETSIGMASK, task, sizeof all, (unsigned long)&all);
    result = call(task, registers, SYS_fchdir, directory);
    call(task, registers, SYS_close, directory);
    trace(PTRACE_SETSIGMASK, task, sizeof mask, (unsigned long)&mask);
  }
  registers.rax = result;
  registers.orig_rax = -1UL;
  trace(PTRACE_SETREGS, task, 0, (unsigned long)&registers);
  trace(PTRACE_DETACH, task, 0, 0);
}

int CLinux_seize_for_fchdir(pid_t task, int directory) {
  int report[2], failure = -EACCES;
  if (pipe2(report, O_CLOEXEC) < 0) return -errno;
  // A process of its own, because another thread of this process waits for all its children and
  // would take the stops. It shares the descriptors, so that it keeps no file open.
  pid_t helper = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
  if (helper == 0) {
    run(task, directory, report[1]);
    syscall(SYS_exit_group, 0);
  }
  struct pollfd ready = {.fd = report[0], .events = POLLIN};
  int result;
  do result = helper < 0 ? 0 : poll(&ready, 1, 5000);
  while (result < 0 && errno == EINTR);
  if (result != 1 || read(report[0], &failure, sizeof failure) != sizeof failure) failure = -EACCES;
  close(report[0]);
  close(report[1]);
  return failure;
}

#else

int CLinux_seize_for_fchdir(pid_t task, int directory) {
  (void)task, (void)directory;
  return -EACCES;
}

#endif

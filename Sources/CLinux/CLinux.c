// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

// Constants passed to the variadic syscall() must have the width of a register (0UL). With a 32-bit
// zero the upper half of the register is undefined, and the kernel rejects the flags word that it
// then reads.

static long result(long value) { return value < 0 ? -errno : value; }

ssize_t CLinux_process_vm_read(pid_t task, void *local, uint64_t remote, size_t count) {
  struct iovec here = {local, count}, there = {(void *)remote, count};
  return result(syscall(SYS_process_vm_readv, task, &here, 1UL, &there, 1UL, 0UL));
}

ssize_t CLinux_process_vm_read_two(pid_t task, void *local, uint64_t remote, size_t count,
                                   void *local2, uint64_t remote2, size_t count2) {
  struct iovec here[] = {{local, count}, {local2, count2}};
  struct iovec there[] = {{(void *)remote, count}, {(void *)remote2, count2}};
  return result(syscall(SYS_process_vm_readv, task, here, 2UL, there, 2UL, 0UL));
}

ssize_t CLinux_process_vm_write(pid_t task, const void *local, uint64_t remote, size_t count) {
  struct iovec here = {(void *)local, count}, there = {(void *)remote, count};
  return result(syscall(SYS_process_vm_writev, task, &here, 1UL, &there, 1UL, 0UL));
}

int CLinux_pidfd_open(pid_t task, _Bool thread) {
  return result(syscall(SYS_pidfd_open, task, thread ? (unsigned long)PIDFD_THREAD : 0UL));
}

_Bool CLinux_is_thread_group_leader(pid_t task) {
  // The kernel checks the ID of the thread group before the permission.
  return syscall(SYS_tgkill, task, task, 0) == 0 || errno == EPERM;
}

int CLinux_pidfd_getfd(int pidfd, int descriptor) {
  return result(syscall(SYS_pidfd_getfd, pidfd, descriptor, 0UL));
}

int CLinux_kcmp_epoll(pid_t task, int descriptor, pid_t owner, int epoll, int target) {
  const struct kcmp_epoll_slot slot = {.efd = epoll, .tfd = target};
  return result(syscall(SYS_kcmp, task, owner, (unsigned long)KCMP_EPOLL_TFD,
                        (unsigned long)descriptor, &slot));
}

int CLinux_kcmp_vm(pid_t task, pid_t other) {
  return result(syscall(SYS_kcmp, task, other, (unsigned long)KCMP_VM, 0UL, 0UL));
}

int CLinux_fstatfs(int descriptor, int64_t *type, int64_t *block_size) {
  struct statfs buffer;
  if (fstatfs(descriptor, &buffer) < 0) return -errno;
  *type = buffer.f_type;
  *block_size = buffer.f_bsize;
  return 0;
}

int CLinux_memfd_create(const char *name, unsigned int flags) {
  return result(syscall(SYS_memfd_create, name, (unsigned long)flags));
}

int CLinux_gettid(void) { return syscall(SYS_gettid); }

int CLinux_ioctl(int descriptor, unsigned long request, uint64_t argument) {
  return result(ioctl(descriptor, request, argument));
}

const char *CLinux_errno_name(int number) { return strerrorname_np(number); }

int CLinux_close_range_unshare(unsigned int first) {
  const unsigned long unshare = 1UL << 1; // CLOSE_RANGE_UNSHARE
  return result(syscall(SYS_close_range, (unsigned long)first, (unsigned long)~0U, unshare));
}

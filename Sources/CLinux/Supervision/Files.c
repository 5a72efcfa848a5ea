// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CLinuxSupervision.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int result(int value) { return value < 0 ? -errno : value; }

int CLinux_stat_descriptor(pid_t task, int number, uint64_t *device, uint64_t *inode) {
  char path[48];
  struct stat status;
  snprintf(path, sizeof path, "/proc/%d/fd/%d", task, number);
  if (stat(path, &status) < 0) return -errno;
  *device = status.st_dev;
  *inode = status.st_ino;
  return 0;
}

int CLinux_pidfd_stat_descriptor(int pidfd, int number, uint64_t *device, uint64_t *inode) {
  int copy = result(syscall(SYS_pidfd_getfd, pidfd, number, 0UL));
  if (copy < 0) return copy;
  struct stat status;
  int failure = result(fstat(copy, &status));
  close(copy);
  if (failure < 0) return failure;
  *device = status.st_dev;
  *inode = status.st_ino;
  return 0;
}

int CLinux_open_model(const char *path, const void *how, size_t size) {
  enum { path_flags = 0x1f, cached = 0x20, beneath_and_in_root = 0x18 };
  struct open_how copy[4096 / sizeof(struct open_how) + 1];
  if (size < sizeof *copy || size > 4096) return -EINVAL;
  memcpy(copy, how, size);
  // build_open_flags() refuses these combinations; without them the flags may be cleared.
  if ((copy->resolve & beneath_and_in_root) != beneath_and_in_root) copy->resolve &= ~path_flags;
  if (!(copy->flags & (O_TRUNC | O_CREAT | O_TMPFILE))) copy->resolve &= ~cached;
  int descriptor = result(syscall(SYS_openat2, AT_FDCWD, path, copy, size));
  if (descriptor < 0) return descriptor;
  int flags = result(fcntl(descriptor, F_GETFL));
  close(descriptor);
  return flags;
}

int CLinux_fallocate_model(int access_mode, int mode, uint64_t offset, uint64_t length) {
  int descriptor = result(open("/dev/null", access_mode | O_CLOEXEC));
  if (descriptor < 0) return -ENODEV;
  int failure = result(fallocate(descriptor, mode, offset, length));
  close(descriptor);
  return failure;
}

int CLinux_prlimit_nofile(pid_t process, uint64_t *limit) {
  struct rlimit both;
  if (prlimit(process, RLIMIT_NOFILE, NULL, &both) < 0) return -errno;
  *limit = both.rlim_cur;
  return 0;
}

int CLinux_memfd_seal(int descriptor, bool against_writing) {
  int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | (against_writing ? F_SEAL_WRITE : 0);
  return result(fcntl(descriptor, F_ADD_SEALS, seals));
}

int CLinux_punch_hole(int descriptor, uint64_t offset, uint64_t length) {
  return result(
      fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length));
}

// The last byte that a file can have.
static struct flock last_byte(short type) {
  return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = INT64_MAX, .l_len = 1};
}

int CLinux_ofd_lock(int descriptor, bool for_writing) {
  struct flock lock = last_byte(for_writing ? F_WRLCK : F_RDLCK);
  return result(fcntl(descriptor, F_OFD_SETLK, &lock));
}

bool CLinux_ofd_is_locked(int descriptor) {
  struct flock lock = last_byte(F_WRLCK);
  return fcntl(descriptor, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

void CLinux_ofd_await_unlock(int descriptor) {
  struct flock lock = last_byte(F_WRLCK);
  while (fcntl(descriptor, F_OFD_SETLKW, &lock) < 0 && errno == EINTR) continue;
  lock = last_byte(F_UNLCK);
  fcntl(descriptor, F_OFD_SETLK, &lock);
}

int CLinux_set_child_subreaper(void) { return result(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)); }

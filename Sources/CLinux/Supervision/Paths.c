// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CLinuxPaths.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static void store(const struct stat *status, struct CLinux_file *file) {
  *file = (struct CLinux_file){.device = status->st_dev,
                               .inode = status->st_ino,
                               .special = status->st_rdev,
                               .mode = status->st_mode};
}

int CLinux_lstat(const char *path, struct CLinux_file *file) {
  struct stat status;
  if (lstat(path, &status) < 0) return -errno;
  store(&status, file);
  return 0;
}

int CLinux_fstat(int descriptor, struct CLinux_file *file) {
  struct stat status;
  if (fstat(descriptor, &status) < 0) return -errno;
  store(&status, file);
  return 0;
}

int CLinux_open_path(int directory, const char *name, bool follow, struct CLinux_file *file) {
  int descriptor = openat(directory, name, O_PATH | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW));
  if (descriptor < 0) return -errno;
  int failure = CLinux_fstat(descriptor, file);
  if (failure < 0) {
    close(descriptor);
    return failure;
  }
  return descriptor;
}

ssize_t CLinux_read_link(int link, char *text, size_t size) {
  ssize_t length = readlinkat(link, "", text, size);
  return length < 0 ? -errno : length;
}

bool CLinux_is_on_procfs(int descriptor) {
  struct statfs status;
  return fstatfs(descriptor, &status) == 0 && status.f_type == PROC_SUPER_MAGIC;
}

uint64_t CLinux_mount_id(int descriptor) {
  struct statx status;
  if (syscall(SYS_statx, descriptor, "", AT_EMPTY_PATH, STATX_MNT_ID, &status) < 0) return 0;
  return status.stx_mask & STATX_MNT_ID ? status.stx_mnt_id : 0;
}

int CLinux_nameless_directory(char *path) {
  if (!mkdtemp(path)) return -errno;
  int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int failure = descriptor < 0 ? -errno : descriptor;
  rmdir(path);
  return failure;
}

int CLinux_statfs_bytes(const char *path, void *bytes, size_t size) {
  struct statfs status;
  if (path) {
    if (statfs(path, &status) < 0) return -errno;
  } else {
    int anonymous = eventfd(0, EFD_CLOEXEC);
    if (anonymous < 0) return -errno;
    int failure = fstatfs(anonymous, &status);
    close(anonymous);
    if (failure < 0) return -EIO;
  }
  if (size < sizeof status) return -EINVAL;
  memcpy(bytes, &status, sizeof status);
  return sizeof status;
}

int CLinux_stat_bytes(int descriptor, bool extended, void *bytes, size_t size) {
  struct statx extended_status;
  struct stat status;
  size_t needed = extended ? sizeof extended_status : sizeof status;
  if (size < needed) return -EINVAL;
  if (extended) {
    if (syscall(SYS_statx, descriptor, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &extended_status) < 0)
      return -errno;
    memcpy(bytes, &extended_status, needed);
  } else {
    if (fstat(descriptor, &status) < 0) return -errno;
    memcpy(bytes, &status, needed);
  }
  return needed;
}

ssize_t CLinux_getdents64(int directory, void *bytes, size_t size) {
  ssize_t count = syscall(SYS_getdents64, directory, bytes, size);
  return count < 0 ? -errno : count;
}

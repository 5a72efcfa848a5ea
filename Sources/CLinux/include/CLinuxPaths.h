// SPDX-License-Identifier: Apache-2.0

// System calls by which one process resolves the paths of another one, component by component.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Fields of struct stat. Device numbers are st_dev and st_rdev as they are.
struct CLinux_file {
  uint64_t device, inode, special;
  uint32_t mode;
};

/// lstat(2). Returns 0 or -errno.
int CLinux_lstat(const char *path, struct CLinux_file *file);
/// openat(2) with O_PATH, then fstat(2). A symbolic link is opened itself unless `follow`. Returns
/// a close-on-exec descriptor or -errno.
int CLinux_open_path(int directory, const char *name, bool follow, struct CLinux_file *file);
/// fstat(2). Returns 0 or -errno.
int CLinux_fstat(int descriptor, struct CLinux_file *file);
/// readlinkat(2) of the symbolic link that `link` refers to. Returns the length or -errno.
ssize_t CLinux_read_link(int link, char *text, size_t size);
/// fstatfs(2): whether the file is on procfs.
bool CLinux_is_on_procfs(int descriptor);
/// statx(2) with STATX_MNT_ID: the mount that the file is on, or 0 when the kernel does not say.
uint64_t CLinux_mount_id(int descriptor);
/// mkdtemp(3) of the template `path`, open(2) with O_DIRECTORY and rmdir(2): an empty directory
/// without a name. Returns a close-on-exec descriptor or -errno.
int CLinux_nameless_directory(char *path);
/// statfs(2) of `path` or, when it is NULL, of an anonymous inode: stores a struct statfs. Returns
/// its size or -errno.
int CLinux_statfs_bytes(const char *path, void *bytes, size_t size);
/// fstat(2) or, if `extended`, statx(2): stores the kernel's struct. Returns its size or -errno.
int CLinux_stat_bytes(int descriptor, bool extended, void *bytes, size_t size);
/// Seizes `task` (ptrace(2)), which waits in chdir(2) for the answer of a seccomp supervisor. Once
/// it has the answer, the thread changes to the directory that its descriptor `directory` refers
/// to, and closes that descriptor; the result of fchdir(2) replaces the answer. Returns 0, or
/// -errno when the thread may not be traced.
int CLinux_seize_for_fchdir(pid_t task, int directory);
/// getdents64(2). Returns the number of bytes or -errno.
ssize_t CLinux_getdents64(int directory, void *bytes, size_t size);

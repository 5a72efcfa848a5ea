// SPDX-License-Identifier: Apache-2.0

// System calls of the launcher's supervisor: files of the processes that it serves, locks and seals
// of stand-in files, and the macros and types of epoll, eventfd and inotify.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/types.h>

/// stat(2) of /proc/<task>/fd/<number>: the device and the inode number of the file that descriptor
/// `number` of `task` refers to. Returns 0 or -errno.
int CLinux_stat_descriptor(pid_t task, int number, uint64_t *device, uint64_t *inode);
/// Does the same for the task of `pidfd`, by pidfd_getfd(2), fstat(2) and close(2). Returns 0,
/// -EBADF when there is no descriptor `number`, -ESRCH when the task has ended, or another -errno.
int CLinux_pidfd_stat_descriptor(int pidfd, int number, uint64_t *device, uint64_t *inode);
/// openat2(2) of `path`, which must be absolute, with the `size` bytes of `how`, then close(2). The
/// flags of `how` that concern the way to the file are left out. Returns the file's status flags
/// (F_GETFL) or -errno.
int CLinux_open_model(const char *path, const void *how, size_t size);
/// fallocate(2) of /dev/null, opened with `access_mode`: what the kernel answers for a character
/// device. Returns 0 or -errno.
int CLinux_fallocate_model(int access_mode, int mode, uint64_t offset, uint64_t length);
/// prlimit(2): stores the soft RLIMIT_NOFILE. Returns 0 or -errno.
int CLinux_prlimit_nofile(pid_t process, uint64_t *limit);
/// F_ADD_SEALS with F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_SEAL, and F_SEAL_WRITE if
/// `against_writing`. Returns 0 or -errno.
int CLinux_memfd_seal(int descriptor, bool against_writing);
/// fallocate(2) with FALLOC_FL_PUNCH_HOLE: frees the pages, so that mappings read zeros. Returns 0
/// or -errno.
int CLinux_punch_hole(int descriptor, uint64_t offset, uint64_t length);
/// F_OFD_SETLK: locks the last byte that a file can have, which holds no data, for writing or for
/// reading. The lock belongs to the open file and ends with its last descriptor and mapping.
/// Returns 0 or -errno.
int CLinux_ofd_lock(int descriptor, bool for_writing);
/// F_OFD_GETLK: whether another open file of the same file holds the lock of CLinux_ofd_lock().
bool CLinux_ofd_is_locked(int descriptor);
/// F_OFD_SETLKW, then F_OFD_SETLK with F_UNLCK: waits until no other open file holds the lock.
void CLinux_ofd_await_unlock(int descriptor);
/// prctl(2) with PR_SET_CHILD_SUBREAPER: orphans among this process's descendants become its
/// children. Returns 0 or -errno.
int CLinux_set_child_subreaper(void);

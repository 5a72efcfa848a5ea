// What the launcher's supervisor asks about the processes it watches, and how it hears of them.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/types.h>

/// The file behind descriptor `number` of `task`: stat(2) of /proc/<task>/fd/<number>. 0 or -errno.
int CLinux_identify_descriptor(pid_t task, int number, uint64_t *device, uint64_t *inode);
/// The same of the task that `pidfd` is of, through a copy of the descriptor: -EBADF without one, -ESRCH
/// when the task has ended.
int CLinux_identify_copy(int pidfd, int number, uint64_t *device, uint64_t *inode);
/// prlimit(2): the soft RLIMIT_NOFILE.
int CLinux_descriptor_limit(pid_t process, uint64_t *limit);
/// F_ADD_SEALS: a memfd keeps its length, and what it holds if it cannot be written. 0 or -errno.
int CLinux_memfd_seal(int descriptor, bool against_writing);
/// FALLOC_FL_PUNCH_HOLE: frees the pages; who maps them finds zeros. 0 or -errno.
int CLinux_punch_hole(int descriptor, uint64_t offset, uint64_t length);
/// Locks the file for the open file that `descriptor` is of, in a way that nothing in the file has to do
/// with, until the last descriptor and mapping of that open file is gone (F_OFD_SETLK). 0 or -errno.
int CLinux_claim(int descriptor);
/// Whether another open file of the same file has claimed it.
bool CLinux_is_claimed(int descriptor);
/// Waits until none has.
void CLinux_await_unclaimed(int descriptor);
/// PR_SET_CHILD_SUBREAPER: orphans of this process's descendants become its children.
int CLinux_become_subreaper(void);

// SPDX-License-Identifier: Apache-2.0

// System calls and structures that Swift's Glibc module does not import. Most functions are one
// system call, the others say which calls they make. A function that fails returns -errno, because
// a call of the Swift runtime could change errno before it is read.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "CLinuxEvents.h"
#include "CLinuxFailNth.h"
#include "CLinuxFaults.h"
#include "CLinuxMemory.h"
#include "CLinuxPaths.h"
#include "CLinuxRing.h"
#include "CLinuxSeccomp.h"
#include "CLinuxSpawn.h"
#include "CLinuxStart.h"
#include "CLinuxSubmissions.h"
#include "CLinuxSupervision.h"
#include "CLinuxTrace.h"

/// process_vm_readv(2) of one local and one remote range. Returns the bytes read or -errno.
ssize_t CLinux_process_vm_read(pid_t task, void *local, uint64_t remote, size_t count);
/// process_vm_readv(2) of two ranges. The kernel reads the second one only when the whole first one
/// could be read. Returns the sum of the bytes read, or -errno.
ssize_t CLinux_process_vm_read_two(pid_t task, void *local, uint64_t remote, size_t count,
                                   void *local2, uint64_t remote2, size_t count2);
/// process_vm_writev(2) of one local and one remote range. Returns the bytes written or -errno.
ssize_t CLinux_process_vm_write(pid_t task, const void *local, uint64_t remote, size_t count);

/// pidfd_open(2), with PIDFD_THREAD (Linux 6.9) if `thread`. Returns a close-on-exec descriptor or
/// -errno.
int CLinux_pidfd_open(pid_t task, _Bool thread);
/// tgkill(2) without a signal: whether `task` is the leader of its thread group.
_Bool CLinux_is_thread_group_leader(pid_t task);
/// pidfd_getfd(2): duplicates another process's descriptor. Returns a close-on-exec descriptor or
/// -errno.
int CLinux_pidfd_getfd(int pidfd, int descriptor);
/// kcmp(2) with KCMP_EPOLL_TFD. Returns 0 when descriptor `descriptor` of `task` refers to the open
/// file that `owner` added to its epoll instance `epoll` as descriptor `target`; otherwise a
/// positive number or -errno.
int CLinux_kcmp_epoll(pid_t task, int descriptor, pid_t owner, int epoll, int target);

/// kcmp(2) with KCMP_VM. Returns 0 when the tasks have the same address space; otherwise a positive
/// number or -errno.
int CLinux_kcmp_vm(pid_t task, pid_t other);

enum { CLinux_MFD_CLOEXEC = 1, CLinux_MFD_ALLOW_SEALING = 2 };
int CLinux_memfd_create(const char *name, unsigned int flags);
int CLinux_gettid(void);
/// ioctl(2), which Swift does not import because it is variadic. Returns its result or -errno.
int CLinux_ioctl(int descriptor, unsigned long request, uint64_t argument);

/// The symbolic name of an errno ("EINVAL"), or NULL for a number without one.
const char *CLinux_errno_name(int number);
/// fstatfs(2): stores the file system's magic number (linux/magic.h) and block size. Returns 0 or
/// -errno.
int CLinux_fstatfs(int descriptor, int64_t *type, int64_t *block_size);

/// Guards `size` bytes of address space at `base` against SIGBUS. When an access faults because a
/// mapped file was truncated or because of a memory error, the page is replaced by a private page
/// of zeros, `lost` is stored in the page's byte of `marks` (one byte per 4 KiB) unless that byte
/// is 0, and the access is repeated. A SIGBUS elsewhere goes to the handler that was installed
/// before. Returns 0, or -ENOSPC when 256 ranges are guarded already.
int CLinux_sigbus_guard(void *base, size_t size, uint8_t *marks, uint8_t lost);
/// Ends the guard of the range at `base`. No thread may access the range any more.
void CLinux_sigbus_unguard(void *base);

/// close_range(2) of all descriptors from `first` on, with CLOSE_RANGE_UNSHARE: the calling thread
/// gets a descriptor table of its own, with the descriptors below `first` only. Returns 0 or
/// -errno.
int CLinux_close_range_unshare(unsigned int first);

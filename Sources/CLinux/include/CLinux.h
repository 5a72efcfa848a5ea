// System calls and structures that Swift's Glibc module does not carry. No logic: each function is
// one system call that returns -errno on failure, so that no runtime call can disturb errno.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "CLinuxEvents.h"
#include "CLinuxFailNth.h"
#include "CLinuxMemory.h"
#include "CLinuxSeccomp.h"
#include "CLinuxSpawn.h"
#include "CLinuxSupervision.h"
#include "CLinuxTrace.h"

/// process_vm_readv(2) of one local and one remote range. Returns bytes moved or -errno.
ssize_t CLinux_process_vm_read(pid_t task, void *local, uint64_t remote, size_t count);
/// The same of two ranges, the second of which is only tried when all of the first could be read. Returns
/// the sum.
ssize_t CLinux_process_vm_read_two(pid_t task, void *local, uint64_t remote, size_t count,
                                   void *local2, uint64_t remote2, size_t count2);
/// process_vm_writev(2) of one local and one remote range. Returns bytes moved or -errno.
ssize_t CLinux_process_vm_write(pid_t task, const void *local, uint64_t remote, size_t count);

/// pidfd_open(2). `thread` asks for PIDFD_THREAD (Linux 6.9).
int CLinux_pidfd_open(pid_t task, _Bool thread);
/// pidfd_getfd(2): a copy of another process's descriptor, O_CLOEXEC.
int CLinux_pidfd_getfd(int pidfd, int descriptor);
/// kcmp(2), KCMP_EPOLL_TFD: 0 when `descriptor` of `task` is the file that was `target` when it was
/// added to the epoll set `set` of `holder`; otherwise a positive number or -errno.
int CLinux_kcmp_epoll(pid_t task, int descriptor, pid_t holder, int set, int target);

enum { CLinux_MFD_CLOEXEC = 1, CLinux_MFD_ALLOW_SEALING = 2 };
int CLinux_memfd_create(const char *name, unsigned int flags);
int CLinux_gettid(void);
/// ioctl(2), which is variadic and therefore not visible to Swift.
int CLinux_ioctl(int descriptor, unsigned long request, uint64_t argument);

/// The symbolic name of an errno ("EINVAL"), or NULL for a number that has none.
const char *CLinux_errno_name(int number);
/// fstatfs(2): the file system's magic number (linux/magic.h) and its block size.
int CLinux_fstatfs(int descriptor, int64_t *type, int64_t *blockSize);

/// Guards `size` bytes of address space at `base` against SIGBUS: a page of it that cannot be had
/// any more (a mapped file was truncated, a memory error) is replaced by a private page of zeros, and
/// `lost` is stored in its byte of `marks`, one byte per 4 KiB, before the access goes on. A SIGBUS
/// anywhere else goes to the handler that was there before. Returns 0, or -ENOSPC when 256 ranges
/// are guarded already.
int CLinux_sigbus_guard(void *base, size_t size, uint8_t *marks, uint8_t lost);
/// Ends the guard of the range at `base`. Nobody may access the range any more.
void CLinux_sigbus_unguard(void *base);

/// close_range(2) from `first` to the end with CLOSE_RANGE_UNSHARE: the calling thread gets a table of
/// descriptors of its own that has only those below `first`. Returns 0 or -errno.
int CLinux_leave_descriptors(unsigned int first);

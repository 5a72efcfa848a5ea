// What a pin of another process's pages asks of the host: its mappings, credentials and limits.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// What /proc/<pid>/maps says of one mapping.
struct CLinux_vma {
  uint64_t start, end, offset, inode;
  uint32_t device_major, device_minor;
  /// Bits 0 to 3: readable, writable, executable, shared.
  uint32_t flags;
};

enum { CLinux_touch_pages = 1024 };

/// Reads one byte of each of `count` (at most CLinux_touch_pages) pages from `address` on, which
/// must be page-aligned. Returns how many pages could be read or -errno when none could.
ssize_t CLinux_process_vm_touch(pid_t task, uint64_t address, size_t count);
/// Makes `count` (at most CLinux_touch_pages) pages present. Returns 1, or -errno when the first
/// cannot be; what else fails stays unnoticed.
ssize_t CLinux_process_vm_fault_for_read(pid_t task, uint64_t address, size_t count);
/// Makes `count` (at most CLinux_touch_pages) pages present and private for writing, changing no
/// byte. What fails stays unnoticed.
void CLinux_process_vm_fault_for_write(pid_t task, uint64_t address, size_t count);
/// PROCMAP_QUERY on an open /proc/<pid>/maps: the mapping that covers `address`. -ENOENT: none;
/// -ESRCH: the memory is gone; -ENOTTY: the host is older than Linux 6.11.
int CLinux_procmap_query(int maps, uint64_t address, struct CLinux_vma *area);

/// capget(2): the effective set, bit n for capability n.
int CLinux_effective_capabilities(pid_t task, uint64_t *set);
/// Whether the task is in the host's initial user namespace; false when that cannot be told.
bool CLinux_is_in_initial_user_namespace(pid_t task);
/// prlimit(2): the soft RLIMIT_MEMLOCK in bytes.
int CLinux_memlock_limit(pid_t task, uint64_t *limit);
/// PIDFD_GET_INFO: the real user id. -ENOTTY or -EINVAL: the host is older than Linux 6.13.
int CLinux_pidfd_real_user(int pidfd, uint32_t *user);
/// fallocate(2) with FALLOC_FL_KEEP_SIZE: 0 or -errno.
int CLinux_allocate(int descriptor, uint64_t offset, uint64_t length);

/// userfaultfd(2) for the untouched private pages at `base`: whoever touches one waits until it is
/// filled. Returns a descriptor or -errno.
int CLinux_userfault_open(void *base, size_t size);
/// Takes note of one such touch. Returns 0, or -EAGAIN when there was none since the last.
int CLinux_userfault_take(int descriptor);
/// Fills pages with zeros and wakes who waits for them. Returns 0 or -errno.
int CLinux_userfault_fill(int descriptor, void *base, size_t size);

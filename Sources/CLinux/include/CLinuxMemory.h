// SPDX-License-Identifier: Apache-2.0

// System calls that pinning another process's pages needs: mappings, page faults, credentials and
// limits.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// The fields of one mapping in /proc/<pid>/maps.
struct CLinux_vma {
  uint64_t start, end, offset, inode;
  uint32_t device_major, device_minor;
  /// Bits 0 to 3: readable, writable, executable, shared.
  uint32_t flags;
};

enum { CLinux_max_touched_pages = 1024 };

/// process_vm_readv(2) of one byte of each of `count` (at most CLinux_max_touched_pages) pages from
/// `address` on, which must be page-aligned. Returns how many pages could be read, or -errno when
/// none could.
ssize_t CLinux_process_vm_touch(pid_t task, uint64_t address, size_t count);
/// process_vm_readv(2) that faults in `count` (at most CLinux_max_touched_pages) pages. Returns 1,
/// or -errno when the first page cannot be faulted in. Failures of other pages are not reported.
ssize_t CLinux_process_vm_fault_for_read(pid_t task, uint64_t address, size_t count);
/// process_vm_writev(2) that faults in `count` (at most CLinux_max_touched_pages) pages for
/// writing, so that private mappings get their own copies, and changes no byte. Failures are not
/// reported.
void CLinux_process_vm_fault_for_write(pid_t task, uint64_t address, size_t count);
/// PROCMAP_QUERY on an open /proc/<pid>/maps: stores the mapping that contains `address`. Returns
/// 0, -ENOENT when nothing is mapped there, -ESRCH when the mm is gone, or -ENOTTY when the host is
/// older than Linux 6.11.
int CLinux_procmap_query(int maps, uint64_t address, struct CLinux_vma *area);

/// Finds the first run of pages from `start` to `end`, which are in one mapping, that the page
/// table of `pagemap`, an open /proc/<pid>/pagemap, does not have; with `for_writing` also pages
/// that userfaultfd protects from writes. PAGEMAP_SCAN, or read(2) on hosts before Linux 6.7.
/// Returns 1 and stores the run, 0 when there is none, or -errno.
int CLinux_pagemap_absent(int pagemap, uint64_t start, uint64_t end, bool for_writing,
                          uint64_t *run_start, uint64_t *run_end);

/// capget(2): stores the effective set, in which bit n stands for capability n. Returns 0 or
/// -errno.
int CLinux_capget_effective(pid_t task, uint64_t *set);
/// readlink(2) of /proc/<task>/ns/user: whether the task is in the host's initial user namespace.
/// False when the link cannot be read.
bool CLinux_is_in_initial_user_namespace(pid_t task);
/// prlimit(2): stores the soft RLIMIT_MEMLOCK in bytes. Returns 0 or -errno.
int CLinux_prlimit_memlock(pid_t task, uint64_t *limit);
/// prlimit(2): makes RLIMIT_MEMLOCK unlimited, or raises the soft limit to the hard limit where
/// that needs privilege.
void CLinux_prlimit_memlock_raise(pid_t task);
/// pidfd_send_signal(2) with SIGKILL.
void CLinux_pidfd_kill(int pidfd);
/// PIDFD_GET_INFO: stores the real user ID. Returns 0, -ENOTTY or -EINVAL when the host is older
/// than Linux 6.13, -ESRCH when the task has ended, or another -errno.
int CLinux_pidfd_real_uid(int pidfd, uint32_t *user);
/// Fills in this process's page table for `count` bytes of a mapped file at `base`, as far as the
/// file has the pages, in half the time of MADV_POPULATE_READ.
void CLinux_map_file_pages(void *base, size_t count);
/// Gives a new memfd `size` bytes, for good: no process can change its size then. Returns 0 or
/// -errno.
int CLinux_seal_size(int descriptor, size_t size);
/// fallocate(2) with FALLOC_FL_KEEP_SIZE. Returns 0 or -errno.
int CLinux_fallocate(int descriptor, uint64_t offset, uint64_t length);

/// userfaultfd(2), UFFDIO_API and UFFDIO_REGISTER of the untouched private pages at `base`: an
/// access to a missing page waits until the page is filled. Returns a non-blocking descriptor or
/// -errno.
int CLinux_userfaultfd_register(void *base, size_t size);
/// Reads one page fault event. Returns 0, or -EAGAIN when no access has faulted since the last
/// event.
int CLinux_userfaultfd_read(int descriptor);
/// UFFDIO_ZEROPAGE: fills the pages with zeros and wakes the threads that wait for them. Returns 0
/// or -errno.
int CLinux_userfaultfd_zeropage(int descriptor, void *base, size_t size);

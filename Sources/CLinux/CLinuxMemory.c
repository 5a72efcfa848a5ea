// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CLinuxMemory.h"
#include "CLinuxFaults.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

static long result(long value) { return value < 0 ? -errno : value; }

ssize_t CLinux_process_vm_touch(pid_t task, uint64_t address, size_t count) {
  struct iovec there[CLinux_max_touched_pages];
  char bytes[CLinux_max_touched_pages];
  if (count > CLinux_max_touched_pages) count = CLinux_max_touched_pages;
  for (size_t i = 0; i < count; i++) there[i] = (struct iovec){(void *)(address + i * 4096), 1};
  struct iovec here = {bytes, count};
  return result(syscall(SYS_process_vm_readv, task, &here, 1UL, there, count, 0UL));
}

ssize_t CLinux_process_vm_fault_for_read(pid_t task, uint64_t address, size_t count) {
  // The kernel pins all pages first (mm: process_vm_rw_single_vec()), then copies as many bytes as
  // the local range has.
  if (count > CLinux_max_touched_pages) count = CLinux_max_touched_pages;
  char byte;
  struct iovec here = {&byte, 1}, there = {(void *)address, count * 4096};
  return result(syscall(SYS_process_vm_readv, task, &here, 1UL, &there, 1UL, 0UL));
}

void CLinux_map_file_pages(void *base, size_t count) {
  // A read fault of a file also maps the pages around it, 64 KiB in all (mm: do_fault_around(),
  // fault_around_pages). MADV_POPULATE_READ looks at each page once more.
  enum { AROUND = 65536, VECTORS = 1024 };
  struct iovec there[VECTORS];
  char bytes[VECTORS];
  for (size_t done = 0; done < count;) {
    size_t vectors = 0;
    for (; vectors < VECTORS && done < count; vectors++, done += AROUND)
      there[vectors] = (struct iovec){(char *)base + done, 1};
    struct iovec here = {bytes, vectors};
    ssize_t touched = syscall(SYS_process_vm_readv, getpid(), &here, 1UL, there, vectors, 0UL);
    if (touched != (ssize_t)vectors) return;
  }
}

void CLinux_process_vm_fault_for_write(pid_t task, uint64_t address, size_t count) {
  // The kernel pins the destination for writing before it reads the source. The source, page 0,
  // cannot be read, so nothing is stored.
  if (count > CLinux_max_touched_pages) count = CLinux_max_touched_pages;
  struct iovec here = {NULL, 1}, there = {(void *)address, count * 4096};
  (void)!syscall(SYS_process_vm_writev, task, &here, 1UL, &there, 1UL, 0UL);
}

// struct procmap_query of PROCMAP_QUERY (Linux 6.11), which older headers lack.
struct procmap_query_args {
  uint64_t size, query_flags, query_addr;
  uint64_t vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
  uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
  uint64_t vma_name_addr, build_id_addr;
};

int CLinux_procmap_query(int maps, uint64_t address, struct CLinux_vma *area) {
  struct procmap_query_args query = {.size = sizeof query, .query_addr = address};
  if (ioctl(maps, _IOWR('f', 17, struct procmap_query_args), &query) < 0) return -errno;
  *area = (struct CLinux_vma){query.vma_start, query.vma_end, query.vma_offset, query.inode,
                              query.dev_major, query.dev_minor, (uint32_t)query.vma_flags};
  return 0;
}

// struct pm_scan_arg and struct page_region of PAGEMAP_SCAN (Linux 6.7), which older headers lack.
struct pagemap_scan_args {
  uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
  uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct pagemap_region {
  uint64_t start, end, categories;
};
enum { PAGEMAP_WRITTEN = 1 << 1, PAGEMAP_PRESENT = 1 << 3 };

// Does what CLinux_pagemap_absent() does, without PAGEMAP_SCAN.
static int pagemap_read(int pagemap, uint64_t start, uint64_t end, bool for_writing,
                        uint64_t *run_start, uint64_t *run_end) {
  uint64_t entries[512], first = 0;
  bool is_open = false;
  for (uint64_t page = start >> 12; page < end >> 12;) {
    uint64_t count = (end >> 12) - page;
    if (count > 512) count = 512;
    ssize_t bytes = pread(pagemap, entries, count * 8, (off_t)(page * 8));
    if (bytes < 8) return bytes < 0 ? -errno : -ESRCH;
    for (ssize_t i = 0; i < bytes / 8; i++, page++) {
      // Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bit 57 write-protected.
      bool absent = !(entries[i] >> 63) || (for_writing && (entries[i] >> 57 & 1));
      if (absent && !is_open) first = page, is_open = true;
      if (!absent && is_open) {
        *run_start = first << 12, *run_end = page << 12;
        return 1;
      }
    }
  }
  if (is_open) *run_start = first << 12, *run_end = end;
  return is_open;
}

static int pagemap_scan(int pagemap, uint64_t start, uint64_t end, bool for_writing,
                        uint64_t limit, struct pagemap_region *region) {
  uint64_t wanted = PAGEMAP_PRESENT | (for_writing ? PAGEMAP_WRITTEN : 0);
  struct pagemap_scan_args scan = {.size = sizeof scan,
                                   .start = start,
                                   .end = end,
                                   .vec = (uintptr_t)region,
                                   .vec_len = 1,
                                   .max_pages = limit,
                                   .category_inverted = wanted,
                                   .category_anyof_mask = wanted,
                                   // Adjacent pages with the same bits here are one region.
                                   .return_mask = PAGEMAP_PRESENT};
  return (int)result(ioctl(pagemap, _IOWR('f', 16, struct pagemap_scan_args), &scan));
}

int CLinux_pagemap_absent(int pagemap, uint64_t start, uint64_t end, bool for_writing,
                          uint64_t *run_start, uint64_t *run_end) {
  // The pages up to which one read takes less time than three scans.
  enum { FEW = 16 };
  struct pagemap_region region;
  if (end - start <= FEW * 4096)
    return pagemap_read(pagemap, start, end, for_writing, run_start, run_end);
  // With `for_writing` the first page found is looked at alone: Linux 7.3 calls no page written
  // that belongs to a mapping without write protection.
  int found = pagemap_scan(pagemap, start, end, for_writing, for_writing, &region);
  if (for_writing && found == 1) {
    bool is_protected = true;
    uint64_t entry;
    if (region.categories & PAGEMAP_PRESENT)
      is_protected = pread(pagemap, &entry, 8, (off_t)(region.start >> 12 << 3)) != 8 ||
                     (entry >> 57 & 1);
    found = pagemap_scan(pagemap, start, end, is_protected, 0, &region);
  }
  if (found != -ENOTTY) {
    if (found == 1) *run_start = region.start, *run_end = region.end;
    return found;
  }
  return pagemap_read(pagemap, start, end, for_writing, run_start, run_end);
}

int CLinux_capget_effective(pid_t task, uint64_t *set) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, task};
  struct __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &header, data) < 0) return -errno;
  *set = (uint64_t)data[1].effective << 32 | data[0].effective;
  return 0;
}

bool CLinux_is_in_initial_user_namespace(pid_t task) {
  // PROC_USER_INIT_INO. readlink(2) takes half the time of stat(2), which follows the link.
  static const char initial[] = "user:[4026531837]";
  char path[32], name[sizeof initial];
  snprintf(path, sizeof path, "/proc/%d/ns/user", task);
  ssize_t length = readlink(path, name, sizeof name);
  return length == sizeof initial - 1 && memcmp(name, initial, sizeof initial - 1) == 0;
}

int CLinux_prlimit_memlock(pid_t task, uint64_t *limit) {
  struct rlimit value;
  if (prlimit(task, RLIMIT_MEMLOCK, 0, &value) < 0) return -errno;
  *limit = value.rlim_cur;
  return 0;
}

// struct pidfd_info of PIDFD_GET_INFO (Linux 6.13), in its first published size.
struct pidfd_info_args {
  uint64_t mask, cgroup;
  uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
};

int CLinux_pidfd_real_uid(int pidfd, uint32_t *user) {
  struct pidfd_info_args info = {.mask = 2 /* PIDFD_INFO_CREDS */};
  if (ioctl(pidfd, _IOWR(0xFF, 11, struct pidfd_info_args), &info) < 0) return -errno;
  if (!(info.mask & 2)) return -ESRCH;
  *user = info.ruid;
  return 0;
}

int CLinux_seal_size(int descriptor, size_t size) {
  struct stat status;
  if (ftruncate(descriptor, (off_t)size) < 0
      || fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0
      || fstat(descriptor, &status) < 0)
    return -errno;
  // Another process may have changed the size before.
  return status.st_size == (off_t)size ? 0 : -EINVAL;
}

int CLinux_fallocate(int descriptor, uint64_t offset, uint64_t length) {
  return result(fallocate(descriptor, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length));
}

int CLinux_userfaultfd_register(void *base, size_t size) {
  int descriptor = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return -errno;
  struct uffdio_api api = {.api = UFFD_API};
  struct uffdio_register range = {.range = {(uintptr_t)base, size},
                                  .mode = UFFDIO_REGISTER_MODE_MISSING};
  if (ioctl(descriptor, UFFDIO_API, &api) < 0 || ioctl(descriptor, UFFDIO_REGISTER, &range) < 0) {
    int failure = -errno;
    close(descriptor);
    return failure;
  }
  return descriptor;
}

int CLinux_userfaultfd_read(int descriptor) {
  struct uffd_msg message;
  ssize_t count = read(descriptor, &message, sizeof message);
  return count == sizeof message ? 0 : count < 0 ? -errno : -EIO;
}

int CLinux_userfaultfd_zeropage(int descriptor, void *base, size_t size) {
  struct uffdio_zeropage range = {.range = {(uintptr_t)base, size}};
  return (int)result(ioctl(descriptor, UFFDIO_ZEROPAGE, &range));
}

void CLinux_prlimit_memlock_raise(pid_t task) {
  struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
  if (prlimit(task, RLIMIT_MEMLOCK, &limit, NULL) == 0) return;
  if (prlimit(task, RLIMIT_MEMLOCK, NULL, &limit) < 0) return;
  limit.rlim_cur = limit.rlim_max;
  prlimit(task, RLIMIT_MEMLOCK, &limit, NULL);
}

void CLinux_pidfd_kill(int pidfd) {
  (void)!syscall(SYS_pidfd_send_signal, pidfd, 9L /* SIGKILL */, NULL, 0UL);
}

int CLinux_file_faults_open(void) {
  int faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
  if (faults < 0) return -errno;
  struct uffdio_api api = {
      .api = UFFD_API,
      .features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MISSING_HUGETLBFS |
                  UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MINOR_HUGETLBFS};
  if (ioctl(faults, UFFDIO_API, &api) < 0) {
    int failure = -errno;
    close(faults);
    return failure;
  }
  return faults;
}

int CLinux_file_faults_register(int faults, void *base, size_t size) {
  struct uffdio_register range = {
      .range = {(uintptr_t)base, size},
      .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR};
  return ioctl(faults, UFFDIO_REGISTER, &range) < 0 ? -errno : 0;
}

int CLinux_file_faults_read(int faults, uint64_t *address, bool *has_page) {
  struct uffd_msg message;
  ssize_t count = read(faults, &message, sizeof message);
  if (count != sizeof message) return count < 0 ? -errno : -EIO;
  if (message.event != UFFD_EVENT_PAGEFAULT) return -EAGAIN;
  *address = message.arg.pagefault.address;
  *has_page = message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_MINOR;
  return 0;
}

int CLinux_file_faults_wake(int faults, void *base, size_t size) {
  struct uffdio_range range = {(uintptr_t)base, size};
  return ioctl(faults, UFFDIO_WAKE, &range) < 0 ? -errno : 0;
}

int CLinux_file_faults_continue(int faults, void *base, size_t size) {
  struct uffdio_continue range = {.range = {(uintptr_t)base, size}};
  return ioctl(faults, UFFDIO_CONTINUE, &range) < 0 ? -errno : 0;
}

int CLinux_move_pages_to(void *from, void *to, size_t size) {
  void *moved = mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to);
  return moved == MAP_FAILED ? -errno : 0;
}

// SPDX-License-Identifier: Apache-2.0

// IOMMU_IOAS_MAP and IOMMU_IOAS_UNMAP with the fewest operations that a server outside the client's
// process needs: copy the struct in, find out whether pins are charged and whether the client still
// runs the same program, query the mapping of the client's memory, make its pages present or find
// out that its page table has them (shared memory, whose userfaultfd must be asked), count a
// pin of each frame, fill the page table, and copy the struct out. It supports one client and one
// area at a time, and does not check the arguments.
#define _GNU_SOURCE
#include "CYardstick.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096UL
enum { PAGES_PER_CALL = 1024 };

struct yardstick_ioas {
  struct yardstick_domain *domain;
  uint8_t *memory, *kinds;
  uint32_t *pins;
  int maps, pagemap, user_namespace, file, is_shared, is_mapped;
};

struct map_command {
  uint32_t size, flags, ioas_id, reserved;
  uint64_t user_va, length, iova;
};

struct unmap_command {
  uint32_t size, ioas_id;
  uint64_t iova, length;
};

// struct procmap_query of <linux/fs.h>, which older headers lack.
struct area_query {
  uint64_t size, flags, address, start, end, area_flags, page_size, offset, inode;
  uint32_t major, minor, name_size, build_id_size;
  uint64_t name, build_id;
};

// struct pm_scan_arg and struct page_region of PAGEMAP_SCAN, which older headers lack.
struct scan_arguments {
  uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
  uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
enum { PAGE_PRESENT = 1 << 3 };

struct yardstick_ioas *yardstick_ioas_make(int is_shared, int has_domain, uint64_t length) {
  struct yardstick_ioas *ioas = calloc(1, sizeof *ioas);
  ioas->is_shared = is_shared;
  ioas->maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  ioas->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  ioas->user_namespace = open("/proc/self/ns/user", O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (has_domain) ioas->domain = yardstick_domain_make(1024);
  ioas->memory = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ioas->kinds = calloc(length / PAGE, sizeof *ioas->kinds);
  ioas->pins = calloc(length / PAGE, sizeof *ioas->pins);
  return ioas;
}

/// Copies between `local` and the client with `call`, process_vm_readv or process_vm_writev.
static int copy(long call, void *local, uint64_t remote, size_t count) {
  struct iovec here = {local, count}, there = {(void *)remote, count};
  return syscall(call, getpid(), &here, 1UL, &there, 1UL, 0UL) == (ssize_t)count ? 0 : -1;
}

/// Whether pins are charged to RLIMIT_MEMLOCK: not for a client with CAP_IPC_LOCK. The capability
/// has effect in the initial user namespace only, which a process can leave at any time. Returns -1
/// on failure.
static int is_charged(struct yardstick_ioas *ioas) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, getpid()};
  struct __user_cap_data_struct data[2];
  char name[32];
  if (syscall(SYS_capget, &header, data)) return -1;
  if (!(data[0].effective >> CAP_IPC_LOCK & 1)) return 1;
  ssize_t length = readlinkat(ioas->user_namespace, "", name, sizeof name);
  return length < 0 ? -1 : length != 17 || memcmp(name, "user:[4026531837]", 17) != 0;
}

static int make_present(uint64_t address, uint64_t length) {
  char byte;
  for (uint64_t done = 0; done < length; done += PAGES_PER_CALL * PAGE) {
    uint64_t left = length - done;
    size_t count = left < PAGES_PER_CALL * PAGE ? left : PAGES_PER_CALL * PAGE;
    // The kernel pins the destination for writing before it reads the source. The source, page 0,
    // cannot be read, so nothing is stored, but the pages are private copies afterwards.
    struct iovec here = {NULL, 1}, there = {(void *)(address + done), count};
    (void)!syscall(SYS_process_vm_writev, getpid(), &here, 1UL, &there, 1UL, 0UL);
    here.iov_base = &byte;
    if (syscall(SYS_process_vm_readv, getpid(), &here, 1UL, &there, 1UL, 0UL) != 1) return -1;
  }
  return 0;
}

/// Opens the mapped file through /proc/<pid>/map_files, because the client may have closed it. Its
/// type is tested before, because opening a device has side effects. Returns -1 for a file that is
/// not on tmpfs.
static int open_mapped(const struct area_query *area) {
  char path[80];
  snprintf(path, sizeof path, "/proc/%d/map_files/%lx-%lx", getpid(), (unsigned long)area->start,
           (unsigned long)area->end);
  struct stat named, opened;
  struct statfs system;
  if (stat(path, &named) || !S_ISREG(named.st_mode)) return -1;
  int file = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) return -1;
  if (!fstat(file, &opened) && opened.st_ino == named.st_ino && opened.st_dev == named.st_dev &&
      !fstatfs(file, &system) && system.f_type == TMPFS_MAGIC)
    return file;
  close(file);
  return -1;
}

/// Whether the client's page table has all pages.
static int are_present(struct yardstick_ioas *ioas, uint64_t address, uint64_t length) {
  uint64_t region[3];
  struct scan_arguments scan = {.size = sizeof scan,
                                .start = address,
                                .end = address + length,
                                .vec = (uint64_t)region,
                                .vec_len = 1,
                                .category_inverted = PAGE_PRESENT,
                                .category_anyof_mask = PAGE_PRESENT,
                                .return_mask = PAGE_PRESENT};
  return ioctl(ioas->pagemap, _IOWR('f', 16, struct scan_arguments), &scan) == 0;
}

/// Makes the pages of the client's memory available to the server.
static int access_pages(struct yardstick_ioas *ioas, const struct map_command *command) {
  struct area_query area = {.size = sizeof area, .address = command->user_va};
  if (ioctl(ioas->maps, _IOWR('f', 17, struct area_query), &area)) return -1;
  if (!ioas->is_shared) return make_present(command->user_va, command->length);
  ioas->file = open_mapped(&area);
  if (ioas->file < 0) return -1;
  if (!are_present(ioas, command->user_va, command->length) &&
      make_present(command->user_va, command->length))
    return -1;
  void *memory = mmap(ioas->memory, command->length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                      ioas->file, area.offset + (command->user_va - area.start));
  return memory == MAP_FAILED ? -1 : 0;
}

/// Pins the pages of a mapping and maps them in the domain.
static int pin_and_map(struct yardstick_ioas *ioas, const struct map_command *command) {
  if (access_pages(ioas, command)) return -1;
  for (uint64_t frame = 0; frame < command->length / PAGE; frame++)
    if (ioas->pins[frame]++ == 0) ioas->kinds[frame] = ioas->is_shared ? 1 : 3;
  return yardstick_domain_map(ioas->domain, command->iova, 0, command->length);
}

/// Unmaps the pages of a mapping in the domain and unpins them.
static int unmap_and_unpin(struct yardstick_ioas *ioas, const struct unmap_command *command) {
  if (yardstick_domain_unmap(ioas->domain, command->iova, command->length) != command->length)
    return -1;
  for (uint64_t frame = 0; frame < command->length / PAGE; frame++)
    if (--ioas->pins[frame] == 0) ioas->kinds[frame] = 0;
  if (!ioas->is_shared) return 0;
  mmap(ioas->memory, command->length, PROT_NONE,
       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
  return close(ioas->file);
}

int yardstick_ioas_map(struct yardstick_ioas *ioas, uint64_t argument) {
  struct map_command command;
  char identity[16];
  if (copy(SYS_process_vm_readv, &command, argument, sizeof command)) return -1;
  // The server reads the client's AT_RANDOM bytes, which identify its address space. Any address
  // does here.
  if (is_charged(ioas) < 0 || copy(SYS_process_vm_readv, identity, argument, sizeof identity)) return -1;
  if (ioas->is_mapped || (ioas->domain && pin_and_map(ioas, &command))) return -1;
  ioas->is_mapped = 1;
  return copy(SYS_process_vm_writev, &command, argument, sizeof command);
}

int yardstick_ioas_unmap(struct yardstick_ioas *ioas, uint64_t argument) {
  struct unmap_command command;
  if (copy(SYS_process_vm_readv, &command, argument, sizeof command) || !ioas->is_mapped) return -1;
  ioas->is_mapped = 0;
  if (ioas->domain && unmap_and_unpin(ioas, &command)) return -1;
  return copy(SYS_process_vm_writev, &command, argument, sizeof command);
}

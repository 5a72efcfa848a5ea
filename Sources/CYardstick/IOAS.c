// MAP and UNMAP of an I/O address space; the least that a server outside of the client's process does
// for them: fetch the struct, learn who pays and whose memory it is, look at the mapping, make its pages
// present, count each frame's pin, fill the table, answer. One client, one area at a time, no checks.
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
  int maps, user_namespace, file, is_shared, is_mapped;
};

struct map_command {
  uint32_t size, flags, ioas_id, reserved;
  uint64_t user_va, length, iova;
};

struct unmap_command {
  uint32_t size, ioas_id;
  uint64_t iova, length;
};

// struct procmap_query, as far as headers lack it.
struct area_query {
  uint64_t size, flags, address, start, end, area_flags, page_size, offset, inode;
  uint32_t major, minor, name_size, build_id_size;
  uint64_t name, build_id;
};

struct yardstick_ioas *yardstick_ioas_make(int is_shared, int has_domain, uint64_t length) {
  struct yardstick_ioas *ioas = calloc(1, sizeof *ioas);
  ioas->is_shared = is_shared;
  ioas->maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  ioas->user_namespace = open("/proc/self/ns/user", O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (has_domain) ioas->domain = yardstick_domain_make(1024);
  ioas->memory = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ioas->kinds = calloc(length / PAGE, sizeof *ioas->kinds);
  ioas->pins = calloc(length / PAGE, sizeof *ioas->pins);
  return ioas;
}

static int copy(long call, void *local, uint64_t remote, size_t count) {
  struct iovec here = {local, count}, there = {(void *)remote, count};
  return syscall(call, getpid(), &here, 1UL, &there, 1UL, 0UL) == (ssize_t)count ? 0 : -1;
}

// CAP_IPC_LOCK counts in the initial user namespace only, and a process may leave that at any time.
static int pays(struct yardstick_ioas *ioas) {
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
    // Private copies of the pages: pinned for writing, from a source that cannot be read.
    struct iovec here = {NULL, 1}, there = {(void *)(address + done), count};
    (void)!syscall(SYS_process_vm_writev, getpid(), &here, 1UL, &there, 1UL, 0UL);
    here.iov_base = &byte;
    if (syscall(SYS_process_vm_readv, getpid(), &here, 1UL, &there, 1UL, 0UL) != 1) return -1;
  }
  return 0;
}

// The client may have closed it, so it is opened through the mapping; what that is is looked at before,
// for opening a device does something.
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

static int place(struct yardstick_ioas *ioas, const struct map_command *command) {
  struct area_query area = {.size = sizeof area, .address = command->user_va};
  if (ioctl(ioas->maps, _IOWR('f', 17, struct area_query), &area)) return -1;
  if (!ioas->is_shared) return make_present(command->user_va, command->length);
  ioas->file = open_mapped(&area);
  if (ioas->file < 0) return -1;
  void *memory = mmap(ioas->memory, command->length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                      ioas->file, area.offset + (command->user_va - area.start));
  return memory == MAP_FAILED ? -1 : 0;
}

static int fill(struct yardstick_ioas *ioas, const struct map_command *command) {
  if (place(ioas, command)) return -1;
  for (uint64_t frame = 0; frame < command->length / PAGE; frame++)
    if (ioas->pins[frame]++ == 0) ioas->kinds[frame] = ioas->is_shared ? 1 : 3;
  return yardstick_domain_map(ioas->domain, command->iova, 0, command->length);
}

static int empty(struct yardstick_ioas *ioas, const struct unmap_command *command) {
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
  char stamp[16];
  if (copy(SYS_process_vm_readv, &command, argument, sizeof command)) return -1;
  if (pays(ioas) < 0 || copy(SYS_process_vm_readv, stamp, argument, sizeof stamp)) return -1;
  if (ioas->is_mapped || (ioas->domain && fill(ioas, &command))) return -1;
  ioas->is_mapped = 1;
  return copy(SYS_process_vm_writev, &command, argument, sizeof command);
}

int yardstick_ioas_unmap(struct yardstick_ioas *ioas, uint64_t argument) {
  struct unmap_command command;
  if (copy(SYS_process_vm_readv, &command, argument, sizeof command) || !ioas->is_mapped) return -1;
  ioas->is_mapped = 0;
  if (ioas->domain && empty(ioas, &command)) return -1;
  return copy(SYS_process_vm_writev, &command, argument, sizeof command);
}

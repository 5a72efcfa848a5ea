// SPDX-License-Identifier: Apache-2.0

// io_uring(7) for transfers between this process and pinned pages of another one. The other process
// can change the memory of the ring, and the kernel executes requests with the credentials of this
// process. So the ring is restricted to READ_FIXED and WRITE_FIXED on the files registered here,
// which hold nothing but the bytes of such transfers.
#define _GNU_SOURCE
#include "CLinuxRing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { FILE_PIPE_READ, FILE_PIPE_WRITE, FILE_STAGING, FILES };

static int ring_setup(struct io_uring_params *parameters) {
  long result = syscall(SYS_io_uring_setup, (long)CLinux_ring_entries, parameters);
  return result < 0 ? -errno : (int)result;
}

static int ring_register(int descriptor, unsigned operation, const void *argument, unsigned count) {
  long result = syscall(SYS_io_uring_register, descriptor, operation, argument, count);
  return result < 0 ? -errno : (int)result;
}

uint32_t CLinux_ring_setup_flags(void) { return IORING_SETUP_R_DISABLED; }

// The layout of a ring with CLinux_ring_entries, as a ring of this process has it. The layout that
// the other process was told is in memory that it can change.
static struct io_uring_params layout;
static size_t layout_size;
static pthread_once_t layout_once = PTHREAD_ONCE_INIT;
static int layout_failure;

static void learn_layout(void) {
  layout.flags = CLinux_ring_setup_flags();
  int descriptor = ring_setup(&layout);
  if (descriptor < 0) {
    layout_failure = descriptor;
    return;
  }
  close(descriptor);
  size_t requests = layout.sq_off.array + layout.sq_entries * sizeof(uint32_t);
  size_t completions = layout.cq_off.cqes + layout.cq_entries * sizeof(struct io_uring_cqe);
  layout_size = requests > completions ? requests : completions;
  if (!(layout.features & IORING_FEAT_SINGLE_MMAP) || !(layout.features & IORING_FEAT_EXT_ARG))
    layout_failure = -ENOSYS;
}

static int restrict_ring(int descriptor) {
  struct io_uring_restriction rules[] = {
      {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ_FIXED},
      {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITE_FIXED},
      {.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE},
      {.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE},
      {.opcode = IORING_RESTRICTION_REGISTER_OP,
       .register_op = CLinux_IORING_REGISTER_BUFFERS_UPDATE},
      {.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_UNREGISTER_BUFFERS},
      {.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = CLinux_IORING_REGISTER_BUFFERS2},
  };
  int result = ring_register(descriptor, IORING_REGISTER_RESTRICTIONS, rules,
                             sizeof rules / sizeof *rules);
  if (result < 0) return result;
  return ring_register(descriptor, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

static int open_files(struct CLinux_ring *ring) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) return -errno;
  ring->pipe_read = ends[0];
  ring->pipe_write = ends[1];
  ring->staging = memfd_create("iommufd-sim transfers", MFD_CLOEXEC);
  if (ring->staging < 0 || ftruncate(ring->staging, CLinux_ring_staging_size) < 0) return -errno;
  void *memory = mmap(NULL, CLinux_ring_staging_size, PROT_READ | PROT_WRITE, MAP_SHARED,
                      ring->staging, 0);
  if (memory == MAP_FAILED) return -errno;
  ring->staging_memory = memory;
  int files[FILES] = {ring->pipe_read, ring->pipe_write, ring->staging};
  return ring_register(ring->descriptor, IORING_REGISTER_FILES, files, FILES);
}

static int map_ring(struct CLinux_ring *ring) {
  void *rings = mmap(NULL, layout_size, PROT_READ | PROT_WRITE, MAP_SHARED, ring->descriptor,
                     IORING_OFF_SQ_RING);
  if (rings == MAP_FAILED) return -errno;
  ring->rings = rings;
  ring->rings_size = layout_size;
  void *requests = mmap(NULL, layout.sq_entries * sizeof(struct io_uring_sqe),
                        PROT_READ | PROT_WRITE, MAP_SHARED, ring->descriptor, IORING_OFF_SQES);
  if (requests == MAP_FAILED) return -errno;
  ring->requests = requests;
  return 0;
}

int CLinux_ring_open(struct CLinux_ring *ring, int descriptor) {
  *ring = (struct CLinux_ring){
      .descriptor = descriptor, .pipe_read = -1, .pipe_write = -1, .staging = -1};
  pthread_once(&layout_once, learn_layout);
  int result = layout_failure;
  if (result == 0) result = map_ring(ring);
  if (result >= 0) result = open_files(ring);
  if (result >= 0) result = restrict_ring(descriptor);
  if (result < 0) CLinux_ring_close(ring);
  return result < 0 ? result : 0;
}

void CLinux_ring_close(struct CLinux_ring *ring) {
  if (ring->requests) munmap(ring->requests, layout.sq_entries * sizeof(struct io_uring_sqe));
  if (ring->rings) munmap(ring->rings, ring->rings_size);
  if (ring->staging_memory) munmap(ring->staging_memory, CLinux_ring_staging_size);
  if (ring->staging >= 0) close(ring->staging);
  if (ring->pipe_read >= 0) close(ring->pipe_read);
  if (ring->pipe_write >= 0) close(ring->pipe_write);
}

static _Atomic uint32_t *word(struct CLinux_ring *ring, uint32_t offset) {
  return (_Atomic uint32_t *)(ring->rings + offset);
}

// Waits up to a second for a completion. A transfer between pinned pages and the files of a ring
// takes no longer, unless the other process takes its bytes or its completion away.
static int await_completion(struct CLinux_ring *ring, uint32_t head) {
  struct __kernel_timespec second = {1, 0};
  struct io_uring_getevents_arg limit = {.ts = (uintptr_t)&second};
  for (int attempt = 0; attempt < 3; attempt++) {
    if (atomic_load_explicit(word(ring, layout.cq_off.tail), memory_order_acquire) != head)
      return 0;
    long result = syscall(SYS_io_uring_enter, ring->descriptor, 0, 1,
                          IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &limit, sizeof limit);
    if (result < 0 && errno != EINTR) break;
  }
  return -EIO;
}

// Executes one request. Returns its result or -errno.
static int transfer(struct CLinux_ring *ring, uint8_t operation, int file, uint64_t address,
                    uint32_t length, uint32_t index) {
  if (ring->is_broken) return -EIO;
  uint32_t tail = atomic_load_explicit(word(ring, layout.sq_off.tail), memory_order_relaxed);
  uint32_t head = atomic_load_explicit(word(ring, layout.cq_off.head), memory_order_relaxed);
  uint32_t slot = tail & (layout.sq_entries - 1);
  struct io_uring_sqe *request = (struct io_uring_sqe *)ring->requests + slot;
  *request = (struct io_uring_sqe){.opcode = operation,
                                   .flags = IOSQE_FIXED_FILE,
                                   .fd = file,
                                   .addr = address,
                                   .len = length,
                                   .user_data = ++ring->sequence,
                                   .buf_index = (uint16_t)index};
  ((uint32_t *)(ring->rings + layout.sq_off.array))[slot] = slot;
  atomic_store_explicit(word(ring, layout.sq_off.tail), tail + 1, memory_order_release);
  long submitted;
  do submitted = syscall(SYS_io_uring_enter, ring->descriptor, 1, 0, 0, NULL, 0);
  while (submitted < 0 && errno == EINTR);
  if (submitted != 1 || await_completion(ring, head) < 0) {
    ring->is_broken = 1;
    return -EIO;
  }
  struct io_uring_cqe *completions = (struct io_uring_cqe *)(ring->rings + layout.cq_off.cqes);
  struct io_uring_cqe completion = completions[head & (layout.cq_entries - 1)];
  atomic_store_explicit(word(ring, layout.cq_off.head), head + 1, memory_order_release);
  if (completion.user_data != ring->sequence) {
    ring->is_broken = 1;
    return -EIO;
  }
  return completion.res;
}

// Removes what a transfer that failed has left in the pipe.
static int drain(struct CLinux_ring *ring) {
  char bytes[4096];
  while (read(ring->pipe_read, bytes, sizeof bytes) > 0) continue;
  return -EFAULT;
}

int CLinux_ring_write(struct CLinux_ring *ring, const void *local, uint64_t address,
                      size_t length, uint32_t index) {
  const uint8_t *source = local;
  if (length <= CLinux_ring_pipe_limit) {
    if (write(ring->pipe_write, source, length) != (ssize_t)length) return drain(ring);
    int result = transfer(ring, IORING_OP_READ_FIXED, FILE_PIPE_READ, address, length, index);
    return result == (int)length ? 0 : drain(ring);
  }
  while (length > 0) {
    uint32_t count = length < CLinux_ring_staging_size ? length : CLinux_ring_staging_size;
    memcpy(ring->staging_memory, source, count);
    int result = transfer(ring, IORING_OP_READ_FIXED, FILE_STAGING, address, count, index);
    if (result != (int)count) return -EFAULT;
    source += count, address += count, length -= count;
  }
  return 0;
}

int CLinux_ring_read(struct CLinux_ring *ring, void *local, uint64_t address, size_t length,
                     uint32_t index) {
  uint8_t *destination = local;
  if (length <= CLinux_ring_pipe_limit) {
    int result = transfer(ring, IORING_OP_WRITE_FIXED, FILE_PIPE_WRITE, address, length, index);
    if (result != (int)length) return drain(ring);
    return read(ring->pipe_read, destination, length) == (ssize_t)length ? 0 : drain(ring);
  }
  while (length > 0) {
    uint32_t count = length < CLinux_ring_staging_size ? length : CLinux_ring_staging_size;
    int result = transfer(ring, IORING_OP_WRITE_FIXED, FILE_STAGING, address, count, index);
    if (result != (int)count) return -EFAULT;
    memcpy(destination, ring->staging_memory, count);
    destination += count, address += count, length -= count;
  }
  return 0;
}

int CLinux_ring_remove(int descriptor, uint32_t index) {
  uint64_t empty[2] = {0, 0};
  struct io_uring_rsrc_update2 update = {
      .offset = index, .data = (uintptr_t)&empty, .nr = 1};
  int result = ring_register(descriptor, CLinux_IORING_REGISTER_BUFFERS_UPDATE, &update,
                             sizeof update);
  return result < 0 ? result : 0;
}

static bool unpins_late;
static pthread_once_t release_once = PTHREAD_ONCE_INIT;

static void learn_release(void) {
  struct utsname name;
  int major = 0, minor = 0;
  if (uname(&name) == 0) sscanf(name.release, "%d.%d", &major, &minor);
  unpins_late = major < 6 || (major == 6 && minor < 4);
}

bool CLinux_ring_unpins_late(void) {
  pthread_once(&release_once, learn_release);
  return unpins_late;
}

int CLinux_ring_clear(int descriptor) {
  int result = ring_register(descriptor, IORING_UNREGISTER_BUFFERS, NULL, 0);
  if (result < 0) return result;
  uint8_t table[sizeof(struct io_uring_rsrc_register)];
  CLinux_ring_table_init(table);
  return ring_register(descriptor, CLinux_IORING_REGISTER_BUFFERS2, table, sizeof table);
}

void CLinux_ring_update_init(struct CLinux_ring_update *update, uint64_t at, uint32_t index,
                             uint64_t address, uint64_t length) {
  struct io_uring_rsrc_update2 first = {
      .offset = index, .data = at + CLinux_ring_update_size, .nr = 1};
  uint64_t vector[2] = {address, length};
  memcpy(update->bytes, &first, sizeof first);
  memcpy(update->bytes + CLinux_ring_update_size, vector, sizeof vector);
}

void CLinux_ring_table_init(uint8_t *bytes) {
  struct io_uring_rsrc_register table = {
      .nr = CLinux_ring_buffers, .flags = IORING_RSRC_REGISTER_SPARSE};
  memcpy(bytes, &table, sizeof table);
}

// Rings whose buffers are pages of this process.

int CLinux_ring_make(void) {
  struct io_uring_params parameters = {.flags = CLinux_ring_setup_flags()};
  int descriptor = ring_setup(&parameters);
  if (descriptor < 0) return descriptor;
  uint8_t table[sizeof(struct io_uring_rsrc_register)];
  CLinux_ring_table_init(table);
  int result = ring_register(descriptor, CLinux_IORING_REGISTER_BUFFERS2, table, sizeof table);
  if (result < 0) {
    close(descriptor);
    return result;
  }
  return descriptor;
}

int CLinux_ring_update(int descriptor, uint32_t index, uint64_t address, uint64_t length) {
  struct CLinux_ring_update update;
  CLinux_ring_update_init(&update, (uintptr_t)&update, index, address, length);
  return ring_register(descriptor, CLinux_IORING_REGISTER_BUFFERS_UPDATE, &update,
                       CLinux_ring_update_size);
}

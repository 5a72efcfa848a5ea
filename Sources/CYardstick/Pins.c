// SPDX-License-Identifier: Apache-2.0

// A device write of 64 bytes to pinned memory with the fewest operations: the bytes go into a pipe,
// and a READ_FIXED request of an io_uring moves them from there into the registered pages. And a
// pin: the registration of a buffer, and its removal.
#define _GNU_SOURCE
#include "CYardstick.h"

#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct yardstick_pins {
  struct io_uring_params layout;
  uint8_t *rings;
  struct io_uring_sqe *requests;
  int descriptor, pipe[2];
};

struct yardstick_pins *yardstick_pins_make(void) {
  struct yardstick_pins *pins = calloc(1, sizeof *pins);
  struct io_uring_rsrc_register table = {.nr = 2, .flags = IORING_RSRC_REGISTER_SPARSE};
  pins->descriptor = (int)syscall(SYS_io_uring_setup, 8L, &pins->layout);
  if (pins->descriptor < 0 || pipe(pins->pipe) < 0
      || syscall(SYS_io_uring_register, pins->descriptor, 15L, &table, sizeof table) < 0) {
    free(pins);
    return NULL;
  }
  size_t size = pins->layout.cq_off.cqes + pins->layout.cq_entries * sizeof(struct io_uring_cqe);
  size_t other = pins->layout.sq_off.array + pins->layout.sq_entries * sizeof(uint32_t);
  if (other > size) size = other;
  pins->rings = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, pins->descriptor,
                     IORING_OFF_SQ_RING);
  pins->requests = mmap(NULL, pins->layout.sq_entries * sizeof(struct io_uring_sqe),
                        PROT_READ | PROT_WRITE, MAP_SHARED, pins->descriptor, IORING_OFF_SQES);
  return pins;
}

int yardstick_pins_register(struct yardstick_pins *pins, const void *memory, uint64_t length) {
  uint64_t vector[2] = {(uintptr_t)memory, length};
  struct io_uring_rsrc_update2 update = {.data = (uintptr_t)vector, .nr = 1};
  return (int)syscall(SYS_io_uring_register, pins->descriptor, 16L, &update, sizeof update);
}

int yardstick_pins_register_file(struct yardstick_pins *pins, int file, uint64_t length) {
  void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) return -1;
  madvise(memory, length, MADV_POPULATE_READ);
  int result = yardstick_pins_register(pins, memory, length);
  if (result == 1) result = yardstick_pins_register(pins, NULL, 0);
  munmap(memory, length);
  return result;
}

int yardstick_pins_write(struct yardstick_pins *pins, const void *bytes, uint32_t length,
                         void *memory) {
  uint8_t *rings = pins->rings;
  _Atomic uint32_t *tail = (_Atomic uint32_t *)(rings + pins->layout.sq_off.tail);
  _Atomic uint32_t *head = (_Atomic uint32_t *)(rings + pins->layout.cq_off.head);
  if (write(pins->pipe[1], bytes, length) != (ssize_t)length) return -1;
  uint32_t number = atomic_load_explicit(tail, memory_order_relaxed);
  uint32_t slot = number & (pins->layout.sq_entries - 1);
  pins->requests[slot] = (struct io_uring_sqe){.opcode = IORING_OP_READ_FIXED,
                                               .fd = pins->pipe[0],
                                               .addr = (uintptr_t)memory,
                                               .len = length};
  ((uint32_t *)(rings + pins->layout.sq_off.array))[slot] = slot;
  atomic_store_explicit(tail, number + 1, memory_order_release);
  if (syscall(SYS_io_uring_enter, pins->descriptor, 1L, 1L, IORING_ENTER_GETEVENTS, NULL, 0L) != 1)
    return -1;
  uint32_t done = atomic_load_explicit(head, memory_order_relaxed);
  struct io_uring_cqe *completions = (struct io_uring_cqe *)(rings + pins->layout.cq_off.cqes);
  int result = completions[done & (pins->layout.cq_entries - 1)].res;
  atomic_store_explicit(head, done + 1, memory_order_release);
  return result;
}

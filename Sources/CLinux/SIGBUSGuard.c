// SPDX-License-Identifier: Apache-2.0

// A client may truncate a file that this server has mapped; the next access raises SIGBUS. The
// handler replaces the page and stores a mark, which the accessing code tests after each access.
// The handler is C because it runs between any two instructions: it may only make system calls and
// access plain memory.
#define _GNU_SOURCE
#include "CLinux.h"
#include "CLinuxFaults.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { RANGES = 256, PAGE_SHIFT = 12 };

// `base` is written last when a range is added, and first when it is removed, so that the handler
// never uses a range that is incomplete. A base of 0 marks an unused slot.
static struct {
  _Atomic uintptr_t base;
  size_t size;
  uint8_t *marks;
  uint8_t lost;
  // The pipe of CLinux_sigbus_ask(), plus 1; 0 when there is none.
  _Atomic int pipe;
} ranges[RANGES];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction previous;
static _Bool installed;

// Replaces the page at `address`. A page of a hugetlbfs mapping can only be replaced as a whole, so
// the page sizes are tried in turn.
static _Bool replace(int slot, uintptr_t base, uintptr_t address) {
  static const int shifts[] = {PAGE_SHIFT, 21, 30};
  for (unsigned i = 0; i < sizeof shifts / sizeof *shifts; i++) {
    size_t size = 1UL << shifts[i];
    uintptr_t start = address & ~(size - 1);
    if (start < base || size > ranges[slot].size - (start - base)) return 0;
    long result = syscall(SYS_mmap, start, size, (long)(PROT_READ | PROT_WRITE),
                          (long)(MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE), -1L, 0L);
    if (result == -1) continue;
    volatile uint8_t *mark = ranges[slot].marks + ((start - base) >> PAGE_SHIFT);
    for (size_t page = 0; page < size >> PAGE_SHIFT; page++)
      if (mark[page]) mark[page] = ranges[slot].lost;
    return 1;
  }
  return 0;
}

enum { WAITS, REPLACED, NOT_REPLACED };

struct CLinux_lost_page {
  uintptr_t address;
  _Atomic uint32_t answer;
};

uintptr_t CLinux_lost_page_address(const struct CLinux_lost_page *page) { return page->address; }

// Asks for memory in place of a page that is lost. Another thread answers: the interrupted code may
// hold any lock, and the answer takes locks.
static _Bool ask(int slot, uintptr_t address) {
  int pipe = atomic_load_explicit(&ranges[slot].pipe, memory_order_acquire) - 1;
  struct CLinux_lost_page page = {.address = address}, *message = &page;
  if (pipe < 0 || write(pipe, &message, sizeof message) != sizeof message) return 0;
  uint32_t answer;
  while ((answer = atomic_load_explicit(&page.answer, memory_order_acquire)) == WAITS)
    syscall(SYS_futex, &page.answer, FUTEX_WAIT_PRIVATE, WAITS, NULL, NULL, 0);
  return answer == REPLACED;
}

void CLinux_lost_page_answer(struct CLinux_lost_page *page, bool is_replaced) {
  // The struct may be gone after the store; the address of a futex need not be mapped.
  atomic_store_explicit(&page->answer, is_replaced ? REPLACED : NOT_REPLACED,
                        memory_order_release);
  syscall(SYS_futex, &page->answer, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void handle(int number, siginfo_t *info, void *context) {
  int saved = errno;
  // A positive si_code means that the kernel raised the signal for a fault. Otherwise si_addr is no
  // address.
  if (info->si_code > 0) {
    uintptr_t address = (uintptr_t)info->si_addr;
    for (int slot = 0; slot < RANGES; slot++) {
      uintptr_t base = atomic_load_explicit(&ranges[slot].base, memory_order_acquire);
      if (base && address - base < ranges[slot].size &&
          (ask(slot, address) || replace(slot, base, address))) {
        errno = saved;
        return;
      }
    }
  }
  if (previous.sa_flags & SA_SIGINFO) {
    previous.sa_sigaction(number, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(number);
  } else {
    // On return the access faults again and ends the process, as without this handler.
    signal(SIGBUS, SIG_DFL);
    if (info->si_code <= 0) raise(SIGBUS);
  }
  errno = saved;
}

int CLinux_sigbus_guard(void *base, size_t size, uint8_t *marks, uint8_t lost) {
  int result = -ENOSPC;
  pthread_mutex_lock(&lock);
  if (!installed) {
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    installed = sigaction(SIGBUS, &action, &previous) == 0;
  }
  for (int slot = 0; slot < RANGES && installed; slot++) {
    if (atomic_load_explicit(&ranges[slot].base, memory_order_relaxed)) continue;
    ranges[slot].size = size;
    ranges[slot].marks = marks;
    ranges[slot].lost = lost;
    atomic_store_explicit(&ranges[slot].pipe, 0, memory_order_relaxed);
    atomic_store_explicit(&ranges[slot].base, (uintptr_t)base, memory_order_release);
    result = 0;
    break;
  }
  pthread_mutex_unlock(&lock);
  return result;
}

void CLinux_sigbus_ask(void *base, int pipe) {
  pthread_mutex_lock(&lock);
  for (int slot = 0; slot < RANGES; slot++)
    if (atomic_load_explicit(&ranges[slot].base, memory_order_relaxed) == (uintptr_t)base)
      atomic_store_explicit(&ranges[slot].pipe, pipe + 1, memory_order_release);
  pthread_mutex_unlock(&lock);
}

void CLinux_sigbus_unguard(void *base) {
  pthread_mutex_lock(&lock);
  for (int slot = 0; slot < RANGES; slot++)
    if (atomic_load_explicit(&ranges[slot].base, memory_order_relaxed) == (uintptr_t)base)
      atomic_store_explicit(&ranges[slot].base, 0, memory_order_release);
  pthread_mutex_unlock(&lock);
}

// SPDX-License-Identifier: Apache-2.0

// Map and unmap in a page table: the algorithm of IOMMU/PageTables/RadixMapper.swift.
#include "CYardstick.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRIES = 512, READ_WRITE = 3, PAGE_SIZE_BIT = 0x80 };
#define ADDRESS_MASK 0x000ffffffffff000ULL

struct yardstick_domain {
  pthread_mutex_t lock, arena_lock;
  uint8_t *memory;
  uint64_t root, fresh, end, retired[16];
  uint64_t *free;
  size_t free_count, retired_count;
};

static _Atomic uint64_t *entry(struct yardstick_domain *domain, uint64_t table, unsigned index) {
  return (_Atomic uint64_t *)(domain->memory + table) + index;
}

static uint64_t load(struct yardstick_domain *domain, uint64_t table, unsigned index) {
  return atomic_load_explicit(entry(domain, table, index), memory_order_relaxed);
}

static void store(struct yardstick_domain *domain, uint64_t table, unsigned index, uint64_t value) {
  atomic_store_explicit(entry(domain, table, index), value, memory_order_release);
}

static uint64_t allocate(struct yardstick_domain *domain) {
  pthread_mutex_lock(&domain->arena_lock);
  uint64_t table = 0;
  if (domain->free_count)
    table = domain->free[--domain->free_count];
  else if (domain->fresh < domain->end) {
    table = domain->fresh;
    domain->fresh += 4096;
  }
  pthread_mutex_unlock(&domain->arena_lock);
  if (table) memset(domain->memory + table, 0, 4096);
  return table;
}

static void release(struct yardstick_domain *domain, uint64_t table) {
  pthread_mutex_lock(&domain->arena_lock);
  domain->free[domain->free_count++] = table;
  pthread_mutex_unlock(&domain->arena_lock);
}

struct yardstick_domain *yardstick_domain_make(size_t pages) {
  struct yardstick_domain *domain = calloc(1, sizeof *domain);
  pthread_mutex_init(&domain->lock, NULL);
  pthread_mutex_init(&domain->arena_lock, NULL);
  domain->memory = aligned_alloc(4096, (pages + 1) * 4096);
  domain->free = malloc(pages * sizeof *domain->free);
  domain->fresh = 4096;
  domain->end = (pages + 1) * 4096;
  domain->root = allocate(domain);
  return domain;
}

void yardstick_domain_free(struct yardstick_domain *domain) {
  free(domain->memory);
  free(domain->free);
  free(domain);
}

struct mapping {
  uint64_t iova, physical, left;
};

/// Maps the part of `m` that the table spans. Returns -1 for an overlap and when no table can be
/// allocated.
static int map(struct yardstick_domain *domain, struct mapping *m, uint64_t table, int level) {
  uint64_t size = 1ULL << (12 + 9 * level);
  for (unsigned index = m->iova >> (12 + 9 * level) & 511; m->left && index < ENTRIES; index++) {
    uint64_t old = load(domain, table, index);
    if (level <= 2 && !((m->iova | m->physical) & (size - 1)) && m->left >= size) {
      if (old & READ_WRITE) return -1;
      store(domain, table, index, m->physical | READ_WRITE | (level ? PAGE_SIZE_BIT : 0));
      m->iova += size;
      m->physical += size;
      m->left -= size;
      continue;
    }
    if (level == 0 || (old & PAGE_SIZE_BIT && level <= 2)) return -1;
    uint64_t lower = old & ADDRESS_MASK;
    if (!(old & READ_WRITE)) {
      lower = allocate(domain);
      if (!lower) return -1;
      store(domain, table, index, lower | READ_WRITE);
    }
    if (map(domain, m, lower, level - 1)) return -1;
  }
  return 0;
}

int yardstick_domain_map(struct yardstick_domain *domain, uint64_t iova, uint64_t physical, uint64_t length) {
  struct mapping mapping = {iova, physical, length};
  pthread_mutex_lock(&domain->lock);
  int result = map(domain, &mapping, domain->root, 3);
  pthread_mutex_unlock(&domain->lock);
  return result;
}

static _Bool is_empty(struct yardstick_domain *domain, uint64_t table) {
  if (load(domain, table, 0) || load(domain, table, ENTRIES - 1)) return 0;
  for (unsigned index = 1; index < ENTRIES - 1; index++)
    if (load(domain, table, index)) return 0;
  return 1;
}

/// Unmaps from *iova through `last`. Returns 0 at the first hole.
static _Bool unmap(struct yardstick_domain *domain, uint64_t *iova, uint64_t last, uint64_t table, int level,
                   uint64_t *length) {
  uint64_t size = 1ULL << (12 + 9 * level);
  for (unsigned index = *iova >> (12 + 9 * level) & 511; index < ENTRIES; index++) {
    uint64_t old = load(domain, table, index);
    if (!(old & READ_WRITE)) return 0;
    if (level == 0 || (old & PAGE_SIZE_BIT && level <= 2)) {
      if (*iova & (size - 1)) return 0;
      store(domain, table, index, 0);
      *length += size;
      *iova += size;
    } else {
      uint64_t lower = old & ADDRESS_MASK;
      _Bool continues = unmap(domain, iova, last, lower, level - 1, length);
      if (is_empty(domain, lower)) {
        store(domain, table, index, 0);
        domain->retired[domain->retired_count++] = lower;
      }
      if (!continues) return 0;
    }
    if (*iova > last || *iova == 0) return 1;
  }
  return 1;
}

uint64_t yardstick_domain_unmap(struct yardstick_domain *domain, uint64_t iova, uint64_t length) {
  uint64_t done = 0, last = iova + length - 1;
  pthread_mutex_lock(&domain->lock);
  domain->retired_count = 0;
  unmap(domain, &iova, last, domain->root, 3, &done);
  pthread_mutex_unlock(&domain->lock);
  while (domain->retired_count) release(domain, domain->retired[--domain->retired_count]);
  return done;
}

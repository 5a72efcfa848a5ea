// SPDX-License-Identifier: Apache-2.0

// IOTLB look-ups, page walks and DMA requests: the algorithms of IOMMU/Caches/IOTLB.swift,
// IOMMU/PageTables/RadixWalker.swift and IOMMU/Units.
#include "Walks.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { WAYS = 8, READ = 1, WRITE = 2, PAGE_SIZE_BIT = 0x80 };

struct entry {
  uint64_t page, tag, frame, stamp;
};

struct yardstick_iotlb {
  struct entry *entries;
  uint64_t mask, clock;
};

struct yardstick_iotlb *yardstick_iotlb_make(size_t sets) {
  struct yardstick_iotlb *iotlb = malloc(sizeof *iotlb);
  iotlb->entries = calloc(sets * WAYS, sizeof(struct entry));
  iotlb->mask = sets - 1;
  iotlb->clock = 0;
  return iotlb;
}

void yardstick_iotlb_free(struct yardstick_iotlb *iotlb) {
  free(iotlb->entries);
  free(iotlb);
}

ALWAYS_INLINE struct entry *set_of(struct yardstick_iotlb *iotlb, uint64_t tag, uint64_t address) {
  return iotlb->entries + (((address >> 12) ^ (tag * 0x9E3779B9)) & iotlb->mask) * WAYS;
}

ALWAYS_INLINE const struct entry *lookup(struct yardstick_iotlb *iotlb, uint64_t tag, uint64_t address) {
  struct entry *set = set_of(iotlb, tag, address);
  uint64_t page = (address >> 12 << 12) | 1;
  for (int way = 0; way < WAYS; way++)
    if (set[way].page == page && set[way].tag == tag) {
      set[way].stamp = ++iotlb->clock;
      return &set[way];
    }
  return NULL;
}

void yardstick_iotlb_insert(struct yardstick_iotlb *iotlb, uint64_t tag, uint64_t address, uint64_t frame) {
  struct entry *set = set_of(iotlb, tag, address), *victim = set;
  for (int way = 1; way < WAYS; way++)
    if (set[way].stamp < victim->stamp) victim = &set[way];
  *victim = (struct entry){(address >> 12 << 12) | 1, tag, frame, ++iotlb->clock};
}

uint64_t yardstick_iotlb_lookups(struct yardstick_iotlb *iotlb, uint64_t tag, const uint64_t *addresses,
                                 size_t count) {
  uint64_t sum = 0;
  for (size_t i = 0; i < count; i++) {
    const struct entry *hit = lookup(iotlb, tag, addresses[i]);
    if (hit) sum += hit->frame & ~0xfffULL;
  }
  return sum;
}

/// The kind of the frame that holds `address`, as FrameKind in IOMMU/Memory/Frames/Frame.swift.
ALWAYS_INLINE uint8_t kind(const struct yardstick_memory *memory, uint64_t address) {
  uint64_t frame = address >> 12;
  return frame < memory->frames
             ? atomic_load_explicit((const _Atomic uint8_t *)memory->kinds + frame, memory_order_relaxed)
             : 0;
}

struct leaf {
  uint64_t physical, allowed;
  int shift;
};

ALWAYS_INLINE _Bool walk(const struct yardstick_memory *memory, const struct yardstick_table *table,
                         uint64_t address, uint64_t access, struct leaf *leaf) {
  uint64_t entry_address = table->root, allowed = READ | WRITE;
  for (int level = table->top_level;; level--) {
    entry_address += (address >> (12 + 9 * level) & 511) * 8;
    if (kind(memory, entry_address) != 1) return 0;
    uint64_t entry = atomic_load_explicit((const _Atomic uint64_t *)(memory->base + entry_address),
                                          memory_order_relaxed);
    if (!(entry & (READ | WRITE))) return 0;
    allowed &= entry;
    if (level == 0 || (entry & PAGE_SIZE_BIT && level <= 2)) {
      if (entry & table->reserved_in_leaf[level] || (allowed & access) != access) return 0;
      *leaf = (struct leaf){entry & ADDRESS_MASK, allowed, 12 + 9 * level};
      return 1;
    }
    if (entry & table->reserved_in_table[level]) return 0;
    entry_address = entry & ADDRESS_MASK;
  }
}

uint64_t yardstick_walks(const struct yardstick_memory *memory, const struct yardstick_table *table,
                         const uint64_t *addresses, size_t count) {
  RETURN_SUM_OF_WALKS(addresses, count, walk(memory, table, address, READ, &leaf));
}

enum { PRESENT = 1, USER = 4, ACCESSED = 0x20 };
#define EXECUTE_DISABLE (1ULL << 63)

/// Translates a guest physical address by the second stage. Returns all ones on a fault.
ALWAYS_INLINE uint64_t second(const struct yardstick_memory *memory, const struct yardstick_table *table,
                              uint64_t address, uint64_t access, struct leaf *leaf) {
  if (address > table->last || !walk(memory, table, address, access, leaf)) return ~0ULL;
  return leaf->physical | (address & ((1ULL << leaf->shift) - 1));
}

ALWAYS_INLINE _Bool walk_nested(const struct yardstick_memory *memory, const struct yardstick_table *first,
                                const struct yardstick_table *stage2, uint64_t address, uint64_t *page) {
  uint64_t entry_address = first->root, granted = ~0ULL;
  struct leaf leaf;
  for (int level = first->top_level;; level--) {
    entry_address += (address >> (12 + 9 * level) & 511) * 8;
    uint64_t physical = second(memory, stage2, entry_address, READ, &leaf);
    if (physical == ~0ULL) return 0;
    uint8_t before = kind(memory, physical);
    if (before != 1 && before != 2) return 0;
    _Atomic uint64_t *slot = (_Atomic uint64_t *)(memory->base + physical);
    uint64_t entry = atomic_load_explicit(slot, memory_order_relaxed);
    if (kind(memory, physical) != before || !(entry & PRESENT)) return 0;
    _Bool is_leaf = level == 0 || (entry & PAGE_SIZE_BIT && level <= 2);
    if (entry & (is_leaf ? first->reserved_in_leaf : first->reserved_in_table)[level]) return 0;
    granted &= entry ^ EXECUTE_DISABLE;
    if (is_leaf && !(granted & USER)) return 0;
    if (!(entry & ACCESSED)) {
      physical = second(memory, stage2, entry_address, WRITE, &leaf);
      if (physical == ~0ULL || kind(memory, physical) != 1) return 0;
      slot = (_Atomic uint64_t *)(memory->base + physical);
      if (!atomic_compare_exchange_strong(slot, &entry, entry | ACCESSED)) return 0;
    }
    if (is_leaf) {
      int shift = 12 + 9 * level;
      uint64_t mask = (1ULL << shift) - 1;
      uint64_t output = (entry & ADDRESS_MASK & ~mask) | (address & mask);
      physical = second(memory, stage2, output, READ, &leaf);
      if (physical == ~0ULL) return 0;
      *page = physical & ~((1ULL << (shift < leaf.shift ? shift : leaf.shift)) - 1);
      return 1;
    }
    entry_address = entry & ADDRESS_MASK;
  }
}

uint64_t yardstick_nested_walks(const struct yardstick_memory *memory, const struct yardstick_table *first,
                                const struct yardstick_table *stage2, const uint64_t *addresses,
                                size_t count) {
  uint64_t sum = 0, page;
  for (size_t i = 0; i < count; i++)
    if (walk_nested(memory, first, stage2, addresses[i], &page)) sum += page;
  return sum;
}

/// An entry of the configuration cache.
struct space {
  uint64_t key, tag, last_iova, stamp;
  struct yardstick_table table;
};

struct yardstick_port {
  struct yardstick_memory memory;
  pthread_mutex_t port_lock, unit_lock;
  struct yardstick_iotlb *iotlb;
  struct space spaces[16][4];
  uint64_t clock, requester;
  /// The address space of the request in progress, for invalidations that wait for the request.
  _Atomic uint32_t using;
};

struct yardstick_port *yardstick_port_make(const struct yardstick_memory *memory,
                                           const struct yardstick_table *table, uint64_t requester,
                                           uint64_t tag, size_t sets) {
  struct yardstick_port *port = calloc(1, sizeof *port);
  port->memory = *memory;
  pthread_mutex_init(&port->port_lock, NULL);
  pthread_mutex_init(&port->unit_lock, NULL);
  port->iotlb = yardstick_iotlb_make(sets);
  port->requester = requester << 32;
  port->spaces[(port->requester ^ port->requester >> 20) & 15][0] =
      (struct space){port->requester, tag, (1ULL << 48) - 1, 1, *table};
  return port;
}

void yardstick_port_free(struct yardstick_port *port) {
  yardstick_iotlb_free(port->iotlb);
  free(port);
}

static struct space *find_space(struct yardstick_port *port, uint64_t key) {
  struct space *set = port->spaces[(key ^ key >> 20) & 15];
  for (int way = 0; way < 4; way++)
    if (set[way].key == key) {
      set[way].stamp = ++port->clock;
      return &set[way];
    }
  return NULL;
}

struct segment {
  uint64_t physical;
  size_t count;
};

// Looks up the pages of a request; the unit's lock must be held. Returns 1 when all pages are in
// the IOTLB, 0 when the page of *iova has to be walked, and -1 when *iova is beyond the address
// width.
static int look_up(struct yardstick_port *port, struct space *space, uint64_t *iova, size_t *left,
                   struct segment *segments, int *used) {
  while (*left) {
    if (*iova > space->last_iova) return -1;
    const struct entry *hit = lookup(port->iotlb, space->tag, *iova);
    if (!hit || !(hit->frame & READ)) return 0;
    uint64_t offset = *iova & 4095, physical = (hit->frame & ~0xfffULL) + offset;
    size_t count = 4096 - offset < *left ? 4096 - offset : *left;
    if (*used && segments[*used - 1].physical + segments[*used - 1].count == physical)
      segments[*used - 1].count += count;
    else
      segments[(*used)++] = (struct segment){physical, count};
    *iova += count;
    *left -= count;
  }
  return 1;
}

/// Copies a segment to `to`. Returns -1 when its memory is not mapped.
static int copy(const struct yardstick_memory *memory, uint8_t *to, struct segment from) {
  while (from.count) {
    size_t count = 4096 - (from.physical & 4095);
    if (count > from.count) count = from.count;
    uint8_t before = kind(memory, from.physical);
    if (before != 1 && before != 2) return -1;
    memcpy(to, memory->base + from.physical, count);
    if (kind(memory, from.physical) != before) return -1;
    to += count;
    from.physical += count;
    from.count -= count;
  }
  return 0;
}

int yardstick_port_read(struct yardstick_port *port, uint64_t iova, void *buffer, size_t count) {
  struct segment segments[8];
  int used = 0, result = 0;
  size_t left = count;
  uint8_t *to = buffer;
  if (iova <= 0xfeefffff && iova + count - 1 >= 0xfee00000) return -1;
  pthread_mutex_lock(&port->port_lock);
  atomic_store_explicit(&port->using, 1, memory_order_relaxed);
  for (int found = 0; !found;) {
    pthread_mutex_lock(&port->unit_lock);
    struct space *space = find_space(port, port->requester);
    atomic_store_explicit(&port->using, (uint32_t)space->tag + 2, memory_order_relaxed);
    found = look_up(port, space, &iova, &left, segments, &used);
    pthread_mutex_unlock(&port->unit_lock);
    if (found) {
      result = found < 0 ? -1 : 0;
      break;
    }
    struct leaf leaf;
    if (!walk(&port->memory, &space->table, iova, READ, &leaf)) {
      result = -1;
      break;
    }
    pthread_mutex_lock(&port->unit_lock);
    uint64_t offset = iova & ((1ULL << leaf.shift) - 1) & ~0xfffULL;
    yardstick_iotlb_insert(port->iotlb, space->tag, iova, (leaf.physical + offset) | leaf.allowed);
    pthread_mutex_unlock(&port->unit_lock);
  }
  for (int i = 0; i < used && !result; i++) {
    result = copy(&port->memory, to, segments[i]);
    to += segments[i].count;
  }
  atomic_store_explicit(&port->using, 0, memory_order_release);
  pthread_mutex_unlock(&port->port_lock);
  return result;
}

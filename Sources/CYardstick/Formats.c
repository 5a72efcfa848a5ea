// SPDX-License-Identifier: Apache-2.0

// Page walks of AMD host tables and of Arm's VMSAv8-64 with 4 KiB pages: the algorithms of
// IOMMU/PageTables/RadixWalker.swift with the formats of Formats/AMDv1.swift and
// Formats/VMSAv8*.swift.
#include "Walks.h"

#include <stdatomic.h>

struct leaf {
  uint64_t physical;
  uint32_t allowed;
  int shift;
};

/// Unprivileged permissions. Privileged ones are shifted left by PRIVILEGED.
enum { READ = 1, WRITE = 2, EXECUTE = 4, PRIVILEGED = 3 };

/// Loads the entry at `address`. Returns 0 when no memory is mapped there.
ALWAYS_INLINE _Bool load(const struct yardstick_memory *memory, uint64_t address, uint64_t *entry) {
  uint64_t frame = address >> 12;
  if (frame >= memory->frames) return 0;
  if (atomic_load_explicit((const _Atomic uint8_t *)memory->kinds + frame, memory_order_relaxed) != 1)
    return 0;
  *entry = atomic_load_explicit((const _Atomic uint64_t *)(memory->base + address), memory_order_relaxed);
  return 1;
}

/// Stores `marked`, the entry with the flags that hardware sets. Returns 0 when the entry was
/// changed.
ALWAYS_INLINE _Bool set_flags(const struct yardstick_memory *memory, uint64_t address, uint64_t entry,
                              uint64_t marked) {
  if (marked == entry) return 1;
  return atomic_compare_exchange_strong((_Atomic uint64_t *)(memory->base + address), &entry, marked);
}

// ---- AMD ------------------------------------------------------------------------------------

enum { AMD_PRESENT = 1, AMD_ACCESSED = 1 << 5 };

ALWAYS_INLINE _Bool walk_amd(const struct yardstick_memory *memory, const struct yardstick_table *table,
                             uint64_t address, uint32_t access, struct leaf *leaf) {
  int level = table->top_level;
  uint64_t entry_address = table->root + (address >> (12 + 9 * level) & 511) * 8, grant = ~0ULL, entry;
  for (;;) {
    if (!load(memory, entry_address, &entry) || !(entry & AMD_PRESENT)) return 0;
    int next = entry >> 9 & 7;
    uint64_t marked = table->updates_flags ? entry | AMD_ACCESSED : entry;
    if (level && next && next != 7) {
      if (next > level) return 0;
      uint64_t skipped = address >> (12 + 9 * next) & ((1ULL << 9 * (level - next)) - 1);
      if (skipped | (entry & table->reserved_in_table[level]) ||
          !set_flags(memory, entry_address, entry, marked))
        return 0;
      grant &= entry;
      level = next - 1;
      entry_address = (entry & ADDRESS_MASK) + (address >> (12 + 9 * level) & 511) * 8;
      continue;
    }
    if ((next && next != 7) || level >= 5) return 0;
    uint64_t number = (entry & ADDRESS_MASK) >> 12;
    int first = 12 + 9 * level, shift = next == 7 ? 13 + __builtin_ctzll(~number) : first;
    if (shift < first || shift >= first + 9 || shift >= 52 || entry & table->reserved_in_leaf[level])
      return 0;
    uint32_t allowed = (entry & grant) >> 61 & 3;
    if ((allowed & access) != access || !set_flags(memory, entry_address, entry, marked)) return 0;
    if (next == 7) number &= number + 1;
    *leaf = (struct leaf){number << 12 & ~((1ULL << shift) - 1), allowed, shift};
    return 1;
  }
}

uint64_t yardstick_amd_walks(const struct yardstick_memory *memory, const struct yardstick_table *table,
                             const uint64_t *addresses, size_t count) {
  RETURN_SUM_OF_WALKS(addresses, count, walk_amd(memory, table, address, READ, &leaf));
}

// ---- Arm ------------------------------------------------------------------------------------

enum {
  VALID = 1 << 0,
  TYPE = 1 << 1,
  ACCESS0 = 1 << 6,
  ACCESS1 = 1 << 7,
  ACCESS_FLAG = 1 << 10,
  // The bits of WalkOptions (IOMMU/PageTables/WalkableFormat.swift).
  SETS_ACCESS_FLAG = 1 << 8,
  SETS_DIRTY_STATE = 1 << 9,
  IGNORES_ACCESS_FLAG = 1 << 10,
  IGNORES_HIERARCHICAL_PERMISSIONS = 1 << 11,
  WRITABLE_NOT_EXECUTABLE = 1 << 12,
  ONE_PRIVILEGE = 1 << 14,
  WIDE_ADDRESSES = 1 << 15,
};
#define DIRTY_MODIFIER (1ULL << 51)
#define CONTIGUOUS (1ULL << 52)

ALWAYS_INLINE uint64_t output(uint64_t entry, uint32_t options) {
  if (!(options & WIDE_ADDRESSES)) return entry & 0x0000fffffffff000ULL;
  return (entry & 0x0003fffffffff000ULL) | (entry >> 8 & 3) << 50;
}

ALWAYS_INLINE uint32_t stage1_rights(uint64_t entry, uint64_t grant, uint32_t options) {
  _Bool has_dirty_state = entry & DIRTY_MODIFIER && options & SETS_DIRTY_STATE;
  _Bool writable = grant >> 62 & 1 && (!(entry & ACCESS1) || has_dirty_state);
  _Bool executable = !(entry >> 54 & 1) && grant >> 60 & 1;
  _Bool exclusive = options & WRITABLE_NOT_EXECUTABLE;
  if (options & ONE_PRIVILEGE) {
    uint32_t all = READ | (writable ? WRITE : 0) | (executable && !(writable && exclusive) ? EXECUTE : 0);
    return all | all << PRIVILEGED;
  }
  _Bool unprivileged = entry & ACCESS0 && grant >> 61 & 1;
  uint32_t privileged = READ | (writable ? WRITE : 0);
  if (!(entry >> 53 & 1) && grant >> 59 & 1 && !(writable && (unprivileged || exclusive)))
    privileged |= EXECUTE;
  uint32_t rights = privileged << PRIVILEGED;
  if (unprivileged) rights |= READ;
  if (unprivileged && writable) rights |= WRITE;
  if (executable && !(unprivileged && writable && exclusive)) rights |= EXECUTE;
  return rights;
}

ALWAYS_INLINE uint32_t stage2_rights(uint64_t entry, uint32_t options) {
  _Bool has_dirty_state = entry & DIRTY_MODIFIER && options & SETS_DIRTY_STATE;
  uint32_t both = (entry & ACCESS0 ? READ : 0) | (entry & ACCESS1 || has_dirty_state ? WRITE : 0);
  _Bool never = entry >> 54 & 1, split = entry >> 53 & 1;
  return both | both << PRIVILEGED | (never ? 0 : EXECUTE) | (never == split ? EXECUTE << PRIVILEGED : 0);
}

ALWAYS_INLINE _Bool walk_arm(const struct yardstick_memory *memory, const struct yardstick_table *table,
                             _Bool is_stage1, uint64_t address, uint32_t access, struct leaf *leaf) {
  uint32_t options = table->options;
  int level = table->top_level, highest = options & WIDE_ADDRESSES ? 3 : 2;
  uint64_t entry_address = table->root + (address >> (12 + 9 * level)) * 8, grant = ~0ULL, entry;
  if (address > table->last) return 0;
  for (;;) {
    if (!load(memory, entry_address, &entry) || !(entry & VALID)) return 0;
    uint64_t out = output(entry, options);
    if (entry & TYPE && level) {
      if (out & table->forbidden) return 0;
      if (is_stage1 && !(options & IGNORES_HIERARCHICAL_PERMISSIONS)) grant &= ~entry;
      level--;
      entry_address = out + (address >> (12 + 9 * level) & 511) * 8;
      continue;
    }
    if (!(entry & TYPE) && (!level || level > highest)) return 0;
    int shift = 12 + 9 * level;
    uint64_t offset = (1ULL << shift) - 1;
    if (out & table->forbidden & ~offset) return 0;
    if (!(entry & ACCESS_FLAG) && !(options & (SETS_ACCESS_FLAG | IGNORES_ACCESS_FLAG))) return 0;
    uint32_t allowed = is_stage1 ? stage1_rights(entry, grant, options) : stage2_rights(entry, options);
    if ((allowed & access) != access) return 0;
    if (!set_flags(memory, entry_address, entry,
                   options & SETS_ACCESS_FLAG ? entry | ACCESS_FLAG : entry))
      return 0;
    out &= ~offset;
    if (entry & CONTIGUOUS && level <= 2) {
      uint64_t run = ((1ULL << (shift + 4)) - 1) & ~offset;
      if (!((out ^ address) & run)) {
        out &= ~run;
        shift += 4;
      }
    }
    *leaf = (struct leaf){out, allowed, shift};
    return 1;
  }
}

uint64_t yardstick_arm_walks(const struct yardstick_memory *memory, const struct yardstick_table *table,
                             int stage, const uint64_t *addresses, size_t count) {
  if (stage == 1) {
    RETURN_SUM_OF_WALKS(addresses, count, walk_arm(memory, table, 1, address, READ, &leaf));
  } else {
    RETURN_SUM_OF_WALKS(addresses, count, walk_arm(memory, table, 0, address, READ, &leaf));
  }
}

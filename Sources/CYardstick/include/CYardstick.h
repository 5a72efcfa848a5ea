// SPDX-License-Identifier: Apache-2.0

// The algorithms of the hot paths of Sources/IOMMU in idiomatic C, on the same memory.
// iommufd-bench compares the two. Nothing else uses this module.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// Physical memory. The byte at address `a` is at `base + a`. `kinds` has a byte for each 4 KiB
/// frame, which is 1 where memory is mapped.
struct yardstick_memory {
  uint8_t *base;
  const uint8_t *kinds;
  uint64_t frames;
};

/// A page table.
struct yardstick_table {
  uint64_t root;
  /// The highest address that the table translates.
  uint64_t last;
  int top_level;
  /// The reserved bits that the unit checks, by level.
  uint64_t reserved_in_table[6], reserved_in_leaf[6];
  /// AMD tables: whether the unit sets accessed flags.
  int updates_flags;
  /// Arm tables: bits of WalkOptions (IOMMU/PageTables/WalkableFormat.swift).
  uint32_t options;
  /// Arm tables: the address bits that must be zero in outputs.
  uint64_t forbidden;
};

struct yardstick_iotlb;
struct yardstick_iotlb *yardstick_iotlb_make(size_t sets);
void yardstick_iotlb_free(struct yardstick_iotlb *iotlb);
void yardstick_iotlb_insert(struct yardstick_iotlb *iotlb, uint64_t tag, uint64_t address, uint64_t frame);
/// Looks up every address. Returns the sum of the frames found.
uint64_t yardstick_iotlb_lookups(struct yardstick_iotlb *iotlb, uint64_t tag, const uint64_t *addresses,
                                 size_t count);

/// Walks a VT-d second-stage table for every address. Returns the sum of the frames found.
uint64_t yardstick_walks(const struct yardstick_memory *memory, const struct yardstick_table *table,
                         const uint64_t *addresses, size_t count);

/// Walks a VT-d first-stage table, whose addresses the second-stage table `stage2` translates, for
/// every address. Returns the sum of the pages found.
uint64_t yardstick_nested_walks(const struct yardstick_memory *memory, const struct yardstick_table *first,
                                const struct yardstick_table *stage2, const uint64_t *addresses,
                                size_t count);

/// Walks an AMD host table, or an Arm VMSAv8-64 table with 4 KiB pages of stage 1 or 2, for every
/// address. Returns the sum of the pages found.
uint64_t yardstick_amd_walks(const struct yardstick_memory *memory, const struct yardstick_table *table,
                             const uint64_t *addresses, size_t count);
uint64_t yardstick_arm_walks(const struct yardstick_memory *memory, const struct yardstick_table *table,
                             int stage, const uint64_t *addresses, size_t count);

/// The path of a DMA request: configuration cache, IOTLB, walk and copy, with the same locks as in
/// Swift.
struct yardstick_port;
struct yardstick_port *yardstick_port_make(const struct yardstick_memory *memory,
                                           const struct yardstick_table *table, uint64_t requester,
                                           uint64_t tag, size_t sets);
void yardstick_port_free(struct yardstick_port *port);
/// Reads `count` bytes at `iova`. Returns 0 when all bytes were read.
int yardstick_port_read(struct yardstick_port *port, uint64_t iova, void *buffer, size_t count);

/// A page table with a lock and its own memory for `table_pages` tables.
struct yardstick_domain;
struct yardstick_domain *yardstick_domain_make(size_t table_pages);
void yardstick_domain_free(struct yardstick_domain *domain);
int yardstick_domain_map(struct yardstick_domain *domain, uint64_t iova, uint64_t physical, uint64_t length);
uint64_t yardstick_domain_unmap(struct yardstick_domain *domain, uint64_t iova, uint64_t length);

/// An IOAS whose client is this process.
struct yardstick_ioas;
/// Makes an IOAS.
///   is_shared   whether a memfd is mapped, and not private memory
///   has_domain  whether a domain's page table follows
///   length      the largest length that is mapped
struct yardstick_ioas *yardstick_ioas_make(int is_shared, int has_domain, uint64_t length);
/// IOMMU_IOAS_MAP and IOMMU_IOAS_UNMAP. `argument` is the address of the ioctl's struct. Returns 0
/// on success.
int yardstick_ioas_map(struct yardstick_ioas *ioas, uint64_t argument);
int yardstick_ioas_unmap(struct yardstick_ioas *ioas, uint64_t argument);

/// An io_uring of this process with one registered buffer.
struct yardstick_pins;
/// Returns NULL when the host has no io_uring.
struct yardstick_pins *yardstick_pins_make(void);
/// Registers `length` bytes as the buffer, in place of the one before; 0 bytes remove it. Returns 1
/// on success.
int yardstick_pins_register(struct yardstick_pins *pins, const void *memory, uint64_t length);
/// Maps `length` bytes of a file, fills in the page table, registers the pages as the buffer and
/// takes all back. Returns 1 on success.
int yardstick_pins_register_file(struct yardstick_pins *pins, int file, uint64_t length);
/// Stores `length` bytes at `memory`, in the buffer. Returns the bytes stored.
int yardstick_pins_write(struct yardstick_pins *pins, const void *bytes, uint32_t length,
                         void *memory);

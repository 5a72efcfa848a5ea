// What the hot paths of Sources/IOMMU cost in C: the same algorithms on the same memory, written as
// one would write them in C. iommufd-bench compares the two in one run. Nothing else uses this.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// Physical memory: base + address, and a byte for each 4 KiB that is 1 where memory is.
struct yardstick_memory {
  uint8_t *base;
  const uint8_t *kinds;
  uint64_t frames;
};

/// A table, the highest address it translates, and what the unit rejects in it.
struct yardstick_table {
  uint64_t root, last;
  int top_level;
  uint64_t reserved_in_table[6], reserved_in_leaf[6];
  /// Of AMD tables: the unit sets flags. Of Arm's: what chooses among the format's variants, and the address
  /// bits that outputs must not have.
  int updates_flags;
  uint32_t options;
  uint64_t forbidden;
};

struct yardstick_iotlb;
struct yardstick_iotlb *yardstick_iotlb_make(size_t sets);
void yardstick_iotlb_free(struct yardstick_iotlb *iotlb);
void yardstick_iotlb_insert(struct yardstick_iotlb *iotlb, uint64_t tag, uint64_t address, uint64_t frame);
/// Looks up every address; the sum of the frames found.
uint64_t yardstick_iotlb_lookups(struct yardstick_iotlb *iotlb, uint64_t tag, const uint64_t *addresses,
                                 size_t count);

/// Walks every address; the sum of the frames found.
uint64_t yardstick_walks(const struct yardstick_memory *memory, const struct yardstick_table *table,
                         const uint64_t *addresses, size_t count);

/// Walks every address through a first-stage table whose addresses a second stage translates; the sum
/// of the pages found.
uint64_t yardstick_nested_walks(const struct yardstick_memory *memory, const struct yardstick_table *first,
                                const struct yardstick_table *stage2, const uint64_t *addresses,
                                size_t count);

/// The same for AMD host tables, and for Arm's VMSAv8-64 with 4 KiB pages, stage 1 or 2.
uint64_t yardstick_amd_walks(const struct yardstick_memory *memory, const struct yardstick_table *table,
                             const uint64_t *addresses, size_t count);
uint64_t yardstick_arm_walks(const struct yardstick_memory *memory, const struct yardstick_table *table,
                             int stage, const uint64_t *addresses, size_t count);

/// A device's way to memory: configuration cache, IOTLB, walk, copy, each under the locks that the
/// Swift one takes.
struct yardstick_port;
struct yardstick_port *yardstick_port_make(const struct yardstick_memory *memory,
                                           const struct yardstick_table *table, uint64_t requester,
                                           uint64_t tag, size_t sets);
void yardstick_port_free(struct yardstick_port *port);
/// Returns 0 when all bytes came.
int yardstick_port_read(struct yardstick_port *port, uint64_t iova, void *buffer, size_t count);

/// A page table under a lock, with its own memory for tables.
struct yardstick_domain;
struct yardstick_domain *yardstick_domain_make(size_t table_pages);
void yardstick_domain_free(struct yardstick_domain *domain);
int yardstick_domain_map(struct yardstick_domain *domain, uint64_t iova, uint64_t physical, uint64_t length);
uint64_t yardstick_domain_unmap(struct yardstick_domain *domain, uint64_t iova, uint64_t length);

/// MAP and UNMAP of an I/O address space whose client is this process.
struct yardstick_ioas;
/// - is_shared: what will be mapped is a memfd, otherwise private memory. length: at most.
struct yardstick_ioas *yardstick_ioas_make(int is_shared, int has_domain, uint64_t length);
/// The arguments are addresses of struct iommu_ioas_map and _unmap. 0 when done.
int yardstick_ioas_map(struct yardstick_ioas *ioas, uint64_t argument);
int yardstick_ioas_unmap(struct yardstick_ioas *ioas, uint64_t argument);

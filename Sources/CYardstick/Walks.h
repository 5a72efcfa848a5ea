// SPDX-License-Identifier: Apache-2.0

// The part that the walks of all formats share.
#pragma once

#include "CYardstick.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define ADDRESS_MASK 0x000ffffffffff000ULL

/// Evaluates `walk`, which stores its result in `leaf`, for each `address`, and returns from the
/// function with the sum of the pages found.
#define RETURN_SUM_OF_WALKS(addresses, count, walk)                                                  \
  uint64_t sum = 0;                                                                                  \
  struct leaf leaf;                                                                                  \
  for (size_t i = 0; i < (count); i++) {                                                             \
    uint64_t address = (addresses)[i];                                                               \
    if (walk) sum += leaf.physical;                                                                  \
  }                                                                                                  \
  return sum

// SPDX-License-Identifier: Apache-2.0

// The submission queue of another process's io_uring.
#pragma once

#include <stdbool.h>
#include <stdint.h>

/// struct io_uring_sqe, with its fields for reads and writes.
struct CLinux_submission {
  uint8_t operation, flags;
  uint16_t priority;
  int32_t descriptor;
  uint64_t offset, address;
  uint32_t length, operation_flags;
  uint64_t user_data;
  uint16_t buffer_index, personality;
  int32_t second_descriptor;
  uint64_t more[2];
};

/// mmap(2) of the first `count` entries of the ring of the descriptor `ring`. Returns NULL when the
/// ring has none that can be mapped.
struct CLinux_submission *CLinux_map_submissions(int ring, unsigned int count);
void CLinux_unmap_submissions(struct CLinux_submission *first, unsigned int count);
/// Whether the kernel has IORING_NOP_INJECT_RESULT (Linux 6.10).
bool CLinux_can_answer_submissions(void);
/// Makes the entry one that does nothing and completes with `result`, or with -EINVAL where
/// CLinux_can_answer_submissions() is false.
void CLinux_answer_submission(struct CLinux_submission *submission, int result);

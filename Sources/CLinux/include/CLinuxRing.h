// SPDX-License-Identifier: Apache-2.0

// An io_uring of another process, used for transfers from and to pages that are pinned as buffers
// of the ring. The other process made the ring and may change its memory at any time, so nothing
// that is read from it is trusted.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  /// Bytes up to which a transfer goes through the pipe, which completes without a kernel thread.
  CLinux_ring_pipe_limit = 16384,
  /// Bytes of the memory file through which larger transfers go.
  CLinux_ring_staging_size = 262144,
  /// IORING_MAX_REG_BUFFERS of Linux 5.13 and later.
  CLinux_ring_buffers = 16384,
  CLinux_ring_entries = 8,
};

/// The flags of io_uring_setup(2) for such a ring.
uint32_t CLinux_ring_setup_flags(void);

struct CLinux_ring {
  /// The ring, owned by the caller of CLinux_ring_open().
  int descriptor;
  int pipe_read, pipe_write, staging;
  uint8_t *rings, *requests, *staging_memory;
  size_t rings_size;
  uint32_t sequence;
  /// A transfer did not complete, so that the ring is not used any more.
  uint32_t is_broken;
};

/// Maps the ring `descriptor`, whose registration is not finished (IORING_SETUP_R_DISABLED),
/// registers the files of the transfers, restricts the ring to transfers between these files and
/// its buffers, and enables it. Returns 0 or -errno.
int CLinux_ring_open(struct CLinux_ring *ring, int descriptor);
void CLinux_ring_close(struct CLinux_ring *ring);

/// Copies `length` bytes from `local` to `address` in buffer `index`. Returns 0 or -errno.
int CLinux_ring_write(struct CLinux_ring *ring, const void *local, uint64_t address,
                      size_t length, uint32_t index);
/// Copies `length` bytes from `address` in buffer `index` to `local`. Returns 0 or -errno.
int CLinux_ring_read(struct CLinux_ring *ring, void *local, uint64_t address, size_t length,
                     uint32_t index);

/// Whether the kernel unpins the pages of a removed buffer up to a second later: Linux before 6.4
/// (io_uring: io_rsrc_node_ref_zero()).
bool CLinux_ring_unpins_late(void);
/// Replaces the table of buffers, none of which is in use, by a new one. The kernel has unpinned
/// the pages of all removed buffers when this function returns. Returns 0 or -errno.
int CLinux_ring_clear(int descriptor);

/// Removes buffer `index`: its pages are unpinned. Returns 0 or -errno.
int CLinux_ring_remove(int descriptor, uint32_t index);

/// The arguments of io_uring_register(2) with IORING_REGISTER_BUFFERS_UPDATE for one buffer, as
/// they lie at an address of the process that makes the call.
struct CLinux_ring_update {
  uint8_t bytes[48];
};
void CLinux_ring_update_init(struct CLinux_ring_update *update, uint64_t at, uint32_t index,
                             uint64_t address, uint64_t length);
/// The size of the first member, which is argument 4 of the call.
enum { CLinux_ring_update_size = 32 };

/// The arguments of io_uring_register(2) with IORING_REGISTER_BUFFERS2 for a table of
/// CLinux_ring_buffers empty buffers: 32 bytes.
void CLinux_ring_table_init(uint8_t *bytes);

enum {
  CLinux_IORING_REGISTER_BUFFERS2 = 15,
  CLinux_IORING_REGISTER_BUFFERS_UPDATE = 16,
};

// Rings whose buffers are pages of this process.

/// io_uring_setup(2) of a ring for CLinux_ring_open(), with a table of CLinux_ring_buffers empty
/// buffers. Returns a close-on-exec descriptor or -errno.
int CLinux_ring_make(void);
/// IORING_REGISTER_BUFFERS_UPDATE: pins `length` bytes at `address` as buffer `index`, or unpins
/// that buffer when `length` is 0. Returns a number that is not negative, or -errno.
int CLinux_ring_update(int descriptor, uint32_t index, uint64_t address, uint64_t length);

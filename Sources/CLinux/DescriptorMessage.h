// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <stddef.h>

/// Sends `size` bytes of `body`, and `descriptor` with them (SCM_RIGHTS) unless it is -1. Calls
/// only async-signal-safe functions, because a forked child of a process with threads uses it.
/// Returns the number of bytes sent, or -errno.
long send_message(int socket, const void *body, size_t size, int descriptor);

/// Receives up to `size` bytes into `body`. Sets `descriptor` to the descriptor that came with them,
/// close-on-exec, or to -1. Returns the number of bytes received, 0 when the other end is closed, or
/// -errno.
long receive_message(int socket, void *body, size_t size, int *descriptor);

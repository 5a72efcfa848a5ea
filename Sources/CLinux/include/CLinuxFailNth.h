// SPDX-License-Identifier: Apache-2.0

// The calling thread's fail_nth counter (Linux: task_struct.fail_nth). It is here because Swift has
// no thread-local variables.
#pragma once

#include <stdint.h>

/// Calls of CLinux_should_fail() until one returns true. 0 when none will.
uint32_t CLinux_fail_nth(void);
void CLinux_set_fail_nth(uint32_t count);
/// Decrements a counter that is not 0 (Linux: should_fail_ex()). Returns whether it has become 0.
_Bool CLinux_should_fail(void);

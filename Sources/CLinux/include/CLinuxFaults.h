// A countdown that belongs to a thread of this server: what Swift has no storage class for.
#pragma once

#include <stdint.h>

/// The calling thread's. 0: nothing counts.
uint32_t CLinux_fault_countdown(void);
void CLinux_set_fault_countdown(uint32_t count);
/// Counts one down, if the thread counts; whether that was the last.
_Bool CLinux_fault_step(void);

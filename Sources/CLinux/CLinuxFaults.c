#include "CLinuxFaults.h"

static _Thread_local uint32_t countdown;

uint32_t CLinux_fault_countdown(void) { return countdown; }

void CLinux_set_fault_countdown(uint32_t count) { countdown = count; }

_Bool CLinux_fault_step(void) { return countdown != 0 && --countdown == 0; }

// SPDX-License-Identifier: Apache-2.0

#include "CLinuxFailNth.h"

static _Thread_local uint32_t fail_nth;

uint32_t CLinux_fail_nth(void) { return fail_nth; }

void CLinux_set_fail_nth(uint32_t count) { fail_nth = count; }

_Bool CLinux_should_fail(void) { return fail_nth != 0 && --fail_nth == 0; }

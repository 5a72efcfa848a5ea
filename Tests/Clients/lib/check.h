/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks of clients that know the expected results. Each check prints one line:
 *
 *   ok   a changed entry is not seen without invalidation
 *   BAD  a changed entry is not seen without invalidation: 0x22, not 0x11
 *
 * A client whose lines are all "ok" exits with status 0.
 */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "section.h"

/** Checks that `got` is `want`, and returns whether it is. `format` says what is checked. */
__attribute__((format(printf, 3, 4))) bool check_number(uint64_t got, uint64_t want,
                                                        const char *format, ...);

/**
 * Checks that a call whose result is `result` failed with errno `want`, or, when `want` is 0, that
 * the call succeeded. Returns whether it did.
 */
__attribute__((format(printf, 3, 4))) bool check_errno(long result, int want, const char *format,
                                                       ...);

/** Ends the client with status 2 because something that the checks depend on is missing. */
__attribute__((format(printf, 1, 2), noreturn)) void fatal(const char *format, ...);

/** Returns the client's exit status: 0 when all checks were "ok", else 1. */
int checks_exit_status(void);

#endif /* CHECK_H */

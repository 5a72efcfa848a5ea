/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that know what has to come out, and say for each thing whether it did:
 *
 *   ok   a changed entry is not seen without invalidation
 *   BAD  a changed entry is not seen without invalidation: 0x22, not 0x11
 *
 * A client whose every line is "ok" exits with status 0.
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

static unsigned bad_checks;

static inline void section(const char *title) { printf("# %s\n", title); }

__attribute__((format(printf, 3, 4))) static inline bool check_number(uint64_t got, uint64_t want,
                                                                      const char *format, ...)
{
    va_list arguments;

    printf(got == want ? "ok   " : "BAD  ");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    if (got != want) {
        printf(": %#llx, not %#llx", (unsigned long long)got, (unsigned long long)want);
        bad_checks++;
    }
    printf("\n");
    return got == want;
}

/** @result: of a call that is to fail with `want`, or, with 0, not to fail. */
__attribute__((format(printf, 3, 4))) static inline bool check_errno(long result, int want,
                                                                     const char *format, ...)
{
    int got = result < 0 ? errno : 0;
    va_list arguments;

    printf(got == want ? "ok   " : "BAD  ");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf(want ? ": %s" : "", want ? strerrorname_np(want) : "");
    if (got != want) {
        printf(": %s", got ? strerrorname_np(got) : "no error");
        bad_checks++;
    }
    printf("\n");
    return got == want;
}

/** Of what the checks depend on: without it there is nothing to check. */
__attribute__((format(printf, 1, 2))) static inline void give_up(const char *format, ...)
{
    va_list arguments;

    fflush(stdout);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs("\n", stderr);
    exit(2);
}

static inline int checked(void)
{
    if (bad_checks)
        fprintf(stderr, "%u checks are bad\n", bad_checks);
    return bad_checks ? 1 : 0;
}

#endif /* CHECK_H */

/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

static unsigned bad_checks;

bool check_number(uint64_t got, uint64_t want, const char *format, ...)
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

bool check_errno(long result, int want, const char *format, ...)
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

void fatal(const char *format, ...)
{
    va_list arguments;

    fflush(stdout);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs("\n", stderr);
    exit(2);
}

int checks_exit_status(void)
{
    if (bad_checks)
        fprintf(stderr, "%u checks are bad\n", bad_checks);
    return bad_checks ? 1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of the caller's pinned pages. */
#ifndef ACCOUNTING_H
#define ACCOUNTING_H

#include "transcript/transcript.h"

static inline void show_pinned(void)
{
    char line[128];
    FILE *status = fopen("/proc/self/status", "r");

    while (status && fgets(line, sizeof(line), status))
        if (!strncmp(line, "VmLck:", 6) || !strncmp(line, "VmPin:", 6))
            fputs(line, stdout);
    if (status)
        fclose(status);
}

#endif /* ACCOUNTING_H */

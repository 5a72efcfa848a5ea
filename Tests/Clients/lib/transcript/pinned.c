/* SPDX-License-Identifier: Apache-2.0 */
#include "transcript/pinned.h"

#include "transcript/named.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

void print_pinned(void)
{
    char line[128];
    FILE *status = fopen("/proc/self/status", "r");

    while (status && fgets(line, sizeof(line), status))
        if (!strncmp(line, "VmLck:", 6) || !strncmp(line, "VmPin:", 6))
            fputs(line, stdout);
    if (status)
        fclose(status);
}

void set_memlock_limit(unsigned pages)
{
    struct rlimit value;

    getrlimit(RLIMIT_MEMLOCK, &value);
    value.rlim_cur = pages * PAGE;
    printf("RLIMIT_MEMLOCK %u pages", pages);
    print_result(setrlimit(RLIMIT_MEMLOCK, &value));
    printf("\n");
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "section.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

const char *part = NULL;

void section(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fputs("# ", stdout);
    if (part)
        printf("part %s: ", part);
    vprintf(format, arguments);
    fputs("\n", stdout);
    va_end(arguments);
}

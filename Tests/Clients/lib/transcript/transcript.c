/* SPDX-License-Identifier: Apache-2.0 */
#include "transcript/transcript.h"

#include <grp.h>

int iommufd = -1;

uint64_t field_value(const void *at, unsigned width)
{
    uint64_t value = 0;

    memcpy(&value, at, width < 8 ? width : 8);
    return value;
}

void print_field(const struct field *field, uint64_t value)
{
    switch (field->kind) {
    case DEC:
        printf("%llu", (unsigned long long)value);
        break;
    case POINTER:
        print_pointer(value);
        break;
    case FILE_IN:
        print_fd((int)value);
        break;
    case FILE_OUT:
        printf((int)value >= 0 ? "an fd" : "%d", (int)value);
        break;
    default:
        printf("%#llx", (unsigned long long)value);
    }
}

void print_inputs(const struct command *command, const unsigned char *bytes)
{
    uint32_t size = (uint32_t)field_value(bytes, 4);

    printf("%s", command->name);
    if (size != command->size)
        printf(" size=%u", size);
    for (const struct field *field = command->fields; field->name; field++) {
        uint64_t value = field_value(bytes + field->offset, field->width);

        if ((field->kind == RESERVED || !strncmp(field->name, "out_", 4)) && !value)
            continue;
        printf(" %s=", field->name);
        print_field(field, value);
    }
}

static void print_struct_changes(const struct command *command, const unsigned char *before,
                                 const unsigned char *after, const char **bar)
{
    unsigned char named[512] = {0};

    for (const struct field *field = command->fields; field->name; field++) {
        memset(named + field->offset, 1, field->width);
        if (!memcmp(before + field->offset, after + field->offset, field->width))
            continue;
        printf("%s %s:", *bar, field->name);
        print_field(field, field_value(after + field->offset, field->width));
        *bar = "";
    }
    for (uint32_t at = 0; at != command->size; at++)
        if (!named[at] && before[at] != after[at]) {
            printf("%s byte%u:%02x", *bar, at, after[at]);
            *bar = "";
        }
}

void print_call(const struct command *command, const unsigned char *before,
                const unsigned char *after, long result)
{
    const char *bar = " |";

    print_inputs(command, before);
    print_result(result);
    print_struct_changes(command, before, after, &bar);
    printf("\n");
}

long run_on(int fd, const struct command *command, void *argument)
{
    unsigned char before[512];
    const char *bar = " |";
    long result;
    int error;

    memcpy(before, argument, command->size);
    print_inputs(command, before);
    snapshot_watched();
    fflush(stdout);
    result = ioctl(fd, command->request, argument);
    error = errno;
    print_result(result);
    print_struct_changes(command, before, argument, &bar);
    print_watched_changes(&bar);
    printf("\n");
    errno = error;
    return result;
}

long run(const struct command *command, void *argument)
{
    return run_on(iommufd, command, argument);
}

long run_raw(unsigned long request, uintptr_t argument, const char *format, ...)
{
    const char *bar = " |";
    va_list arguments;
    long result;
    int error;

    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    snapshot_watched();
    fflush(stdout);
    result = ioctl(iommufd, request, argument);
    error = errno;
    print_result(result);
    print_watched_changes(&bar);
    printf("\n");
    errno = error;
    return result;
}

static void become_nobody_if_asked(void)
{
    if (!getenv("AS_NOBODY") || geteuid())
        return;
    if (setgroups(0, NULL) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)) {
        perror("becoming nobody");
        exit(2);
    }
}

void begin(const char *title)
{
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    become_nobody_if_asked();
    section("%s", title);
    iommufd = name_fd("iommufd", open_iommufd());
}

void reopen(const char *title)
{
    section("%s", title);
    close(iommufd);
    remove_all_fd_names();
    iommufd = name_fd("iommufd", open_iommufd());
}

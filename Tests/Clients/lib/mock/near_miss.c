/* SPDX-License-Identifier: Apache-2.0 */
#include "mock/near_miss.h"

#include "random.h"

struct guarded_memory argument_memory, data_memory;
bool misses_enabled = true;

static const struct near_miss_client *client;

void begin_near_misses(const struct near_miss_client *the_client)
{
    client = the_client;
    make_guarded_memory(&argument_memory, "argument", 0x210000000000);
    make_guarded_memory(&data_memory, "data", 0x230000000000);
}

bool should_miss(unsigned percent)
{
    return chance(percent) && misses_enabled;
}

uintptr_t some_address(const struct guarded_memory *memory, size_t length, unsigned odd)
{
    uintptr_t base = (uintptr_t)memory->base, border;

    if (!should_miss(odd))
        return base + 0x100;
    switch (below(10)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
        border = base + guarded_borders[below(3)];
        return border - 1 - below(length && length < PAGE ? length : 1);
    case 6:
        return base + 0x100 + 1 + below(7);
    case 7:
        return base + 2 * PAGE + 0x100;
    case 8:
        return below(2) ? 0 : base + 3 * PAGE + 0x100;
    default:
        return below(2) ? 0xffff888000001000 : 0x8000000000000000;
    }
}

/* ---- fields that are wrong ---------------------------------------------------------------- */

uint64_t odd_value(uint64_t value, unsigned width)
{
    uint64_t bit = 1ULL << below(8 * width);

    switch (below(13)) {
    case 0:
        return 0;
    case 1:
        return 1;
    case 2:
        return ~0ULL;
    case 3:
        return ~1ULL;
    case 4:
        return 1ULL << (8 * width - 1);
    case 5:
        return bit;
    case 6:
    case 7:
        return value ^ bit;
    case 8:
        return value + 1;
    case 9:
        return value - 1;
    case 10:
        return value ^ 0x800;
    case 11:
        return value + PAGE * (below(2) ? 1 : ~0ULL);
    default:
        return client->some_id();
    }
}

static void corrupt_field(const struct field *field, unsigned char *bytes)
{
    unsigned width = field->width < 8 ? field->width : 8;
    uint64_t value = field_value(bytes + field->offset, width);

    if (field->kind == FILE_IN)
        value = below(3) ? (uint64_t)client->some_fd() : below(2) ? ~0ULL : 12345;
    else if (field->kind == POINTER && below(2))
        value = some_address(&data_memory, 64, 100);
    else
        value = odd_value(value, width);
    memcpy(bytes + field->offset, &value, width);
}

static void corrupt_some_field(const struct command *command, unsigned char *bytes)
{
    unsigned count = 0;

    while (count != COUNT(command->fields) && command->fields[count].name)
        count++;
    if (count)
        corrupt_field(&command->fields[below(count)], bytes);
}

/**
 * Returns a wrong value for the struct's size. The bytes beyond the struct of Linux 7.3 are 0, but
 * for the byte at `*tail`, which is to be 1, when `*tail` is not 0.
 */
static uint32_t odd_size(const struct command *command, size_t *tail)
{
    uint32_t size = command->size;

    *tail = 0;
    switch (below(9)) {
    case 0:
        return command->minimum;
    case 1:
        return command->minimum - 1;
    case 2:
        return below(size + 1);
    case 3:
        return below(2) ? 0 : ~0u;
    case 4:
        return size + 1 + below(64);
    case 5:
        return size + below(3 * PAGE);
    case 6:
        return 1u << below(32);
    default:
        size += 1 + below(200);
        *tail = command->size + below(size - command->size);
        return size;
    }
}

/* ---- calls -------------------------------------------------------------------------------- */

static void print_field_changes(const struct command *command, uintptr_t at,
                                const unsigned char *before, const unsigned char *after,
                                const char **bar)
{
    for (const struct field *field = command->fields; field->name; field++) {
        if (!memcmp(before + field->offset, after + field->offset, field->width))
            continue;
        printf("%s %s:", *bar, field->name);
        if (field->kind == FILE_OUT)
            printf("an fd");
        else
            print_field(field, field_value(after + field->offset, field->width));
        *bar = "";
        ignore_guarded_changes(&argument_memory, at + field->offset, field->width);
    }
}

struct answer call_on(int fd, const struct command *command, void *bytes)
{
    unsigned char before[512], after[512];
    size_t tail = 0;
    uint32_t size = command->size;
    bool is_wrong_size = should_miss(4);
    const char *bar = " |";
    uintptr_t at;
    long result;
    int error;

    memcpy(&size, bytes, 4);
    if (should_miss(15)) {
        memcpy(before, bytes, command->size);
        corrupt_some_field(command, before);
        if (chance(15))
            corrupt_some_field(command, before);
        if (client->is_repeatable(command, before))
            memcpy(bytes, before, command->size);
    }
    if (chance(25))
        for (const struct field *field = command->fields; field->name; field++)
            if (!strncmp(field->name, "out_", 4) && strcmp(field->name, "out_data_type"))
                memset((char *)bytes + field->offset, 0xa5, field->width);
    if (is_wrong_size) {
        size = odd_size(command, &tail);
        memcpy(bytes, &size, 4);
    }
    at = some_address(&argument_memory, command->size, 5);
    fill_guarded(&argument_memory, 0);
    write_guarded(&argument_memory, at, bytes, command->size);
    if (tail)
        write_guarded(&argument_memory, at + tail, "\1", 1);
    snapshot_guarded(&argument_memory);
    snapshot_guarded(&data_memory);
    client->snapshot();
    read_guarded(&argument_memory, at, before, command->size);

    print_fd(fd);
    printf(" ");
    print_inputs(command, bytes);
    if (tail)
        printf(" byte%zu", tail);
    if (at != (uintptr_t)argument_memory.base + 0x100) {
        printf(" at ");
        print_pointer(at);
    }
    fflush(stdout);
    result = ioctl(fd, command->request, at);
    error = errno;
    if (!client->print_result(command, result))
        print_result(result);
    read_guarded(&argument_memory, at, after, command->size);
    print_field_changes(command, at, before, after, &bar);
    print_guarded_changes(&argument_memory, at, &bar);
    print_guarded_changes(&data_memory, (uintptr_t)data_memory.base + 0x100, &bar);
    client->print_changes(&bar);
    printf("\n");
    memcpy(bytes, after, command->size);
    errno = error;
    return (struct answer){result, size < command->size ? size : command->size};
}

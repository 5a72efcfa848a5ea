/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Near misses: a call is first made up as a valid one; then, about one time in four, one thing about
 * it is made wrong. A field gets a neighbouring or extreme value, the struct another length than
 * today's, or it lies where it cannot be read or written in full.
 *
 * A place is where structs and what they point to are put: two pages that can be written, one that
 * can only be read, nothing, another that can be written, nothing. So a struct that begins k bytes
 * before one of the borders is cut there. After the call every byte of the places that changed is
 * printed, in fields of the struct by name and elsewhere by its distance from where the argument began.
 */
#ifndef NEAR_MISS_H
#define NEAR_MISS_H

#include "mock/mock.h"
#include "random.h"

struct place {
    const char *name;
    unsigned char *base;
    unsigned char *read_only; /* the read-only page again, where it can be written */
    unsigned char before[6 * PAGE];
};

/** False while something is built that later calls need. */
static bool missing = true;
static struct place argument_place, data_place;

/** Whether to miss here, `percent` of the times. */
static bool miss(unsigned percent)
{
    return chance(percent) && missing;
}

/* ---- places ------------------------------------------------------------------------------ */

static bool can_be_written(size_t page)
{
    return page < 2 || page == 4;
}

static void make_place(struct place *place, const char *name, uintptr_t address)
{
    int file = memfd_create(name, MFD_CLOEXEC);

    place->name = name;
    place->base = region_at(name, address, 6 * PAGE, PROT_READ | PROT_WRITE);
    if (file < 0 || ftruncate(file, PAGE) ||
        mmap(place->base + 2 * PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) ==
            MAP_FAILED)
        abort();
    place->read_only = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (place->read_only == MAP_FAILED)
        abort();
    close(file);
    munmap(place->base + 3 * PAGE, PAGE);
    munmap(place->base + 5 * PAGE, PAGE);
}

/** The byte at `address` as this process can write it, or NULL where there is none. */
static unsigned char *byte_of(const struct place *place, uintptr_t address)
{
    uintptr_t offset = address - (uintptr_t)place->base;

    if (offset >= 6 * PAGE || offset / PAGE == 3 || offset / PAGE == 5)
        return NULL;
    return offset / PAGE == 2 ? place->read_only + offset % PAGE : place->base + offset;
}

static void put(const struct place *place, uintptr_t address, const void *bytes, size_t length)
{
    for (size_t i = 0; i != length; i++) {
        unsigned char *byte = byte_of(place, address + i);

        if (byte)
            *byte = ((const unsigned char *)bytes)[i];
    }
}

static void fetch(const struct place *place, uintptr_t address, void *bytes, size_t length)
{
    for (size_t i = 0; i != length; i++) {
        const unsigned char *byte = byte_of(place, address + i);

        ((unsigned char *)bytes)[i] = byte ? *byte : 0;
    }
}

static void clear_place(const struct place *place, unsigned char value)
{
    for (size_t page = 0; page != 5; page++)
        if (can_be_written(page))
            memset(place->base + page * PAGE, value, PAGE);
    memset(place->read_only, value, PAGE);
}

static void remember_place(struct place *place)
{
    for (size_t page = 0; page != 5; page++)
        if (can_be_written(page))
            memcpy(place->before + page * PAGE, place->base + page * PAGE, PAGE);
}

/** An address in the place for `length` bytes; mostly one where they can be read and written. */
static uintptr_t some_address(const struct place *place, size_t length, unsigned odd)
{
    static const size_t borders[] = {2 * PAGE, 3 * PAGE, 5 * PAGE};
    uintptr_t base = (uintptr_t)place->base, border;

    if (!miss(odd))
        return base + 0x100;
    switch (below(10)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
        border = base + borders[below(3)];
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

static uint64_t hash_of(const unsigned char *bytes, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325;

    for (size_t i = 0; i != length; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

static void print_run(const char *name, long offset, const unsigned char *bytes, size_t length,
                      const char **bar)
{
    printf("%s %s%+ld:", *bar, name, offset);
    *bar = "";
    if (length > 24) {
        printf("%zu bytes %016llx", length, (unsigned long long)hash_of(bytes, length));
        return;
    }
    for (size_t i = 0; i != length; i++)
        printf("%02x", bytes[i]);
}

/** Runs of changed bytes in the place, by their distance from `origin`. */
static void print_place_changes(const struct place *place, uintptr_t origin, const char **bar)
{
    for (size_t page = 0; page != 5; page++) {
        const unsigned char *now = place->base + page * PAGE, *old = place->before + page * PAGE;

        if (!can_be_written(page) || !memcmp(now, old, PAGE))
            continue;
        for (size_t at = 0; at != PAGE; at++) {
            size_t end = at;

            while (end != PAGE && now[end] != old[end])
                end++;
            if (end == at)
                continue;
            print_run(place->name, (long)((uintptr_t)now + at - origin), now + at, end - at, bar);
            at = end - 1;
        }
    }
}

/* ---- fields that are wrong ---------------------------------------------------------------- */

static uint32_t any_id(void);
static int any_descriptor(void);

static uint64_t odd_number(uint64_t value, unsigned width)
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
        return any_id();
    }
}

static void spoil_field(const struct field *field, unsigned char *bytes)
{
    unsigned width = field->width < 8 ? field->width : 8;
    uint64_t value = field_value(bytes + field->offset, width);

    if (field->kind == FILE_IN)
        value = below(3) ? (uint64_t)any_descriptor() : below(2) ? ~0ULL : 12345;
    else if (field->kind == POINTER && below(2))
        value = some_address(&data_place, 64, 100);
    else
        value = odd_number(value, width);
    memcpy(bytes + field->offset, &value, width);
}

static void spoil_some_field(const struct command *command, unsigned char *bytes)
{
    unsigned count = 0;

    while (count != COUNT(command->fields) && command->fields[count].name)
        count++;
    if (count)
        spoil_field(&command->fields[below(count)], bytes);
}

/** What the caller says the struct's length is; bytes beyond today's are 0, but one if `tail` says. */
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

/** What a call must not ask for, because the answer would depend on more than the calls made. */
static bool repeatable(const struct command *command, const unsigned char *bytes);
/** Prints what else the call has changed. */
static void print_other_changes(const char **bar);
static void remember_other(void);
/** Prints the answer, if it is not what print_result() prints; gives whether it did. */
static bool print_own_answer(const struct command *command, long result);

struct answer {
    long result;
    size_t length; /* of what can be trusted of the struct, now in the caller's bytes */
};

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
        /* told; what is left differs outside of the fields */
        for (unsigned i = 0; i != field->width; i++) {
            uintptr_t offset = at + field->offset + i - (uintptr_t)argument_place.base;

            if (offset < 6 * PAGE && can_be_written(offset / PAGE))
                argument_place.before[offset] = argument_place.base[offset];
        }
    }
}

/**
 * Makes the call that `bytes` describe, or one that misses it by a little. Afterwards `bytes` are
 * the struct as the call has left it.
 */
static struct answer call_on(int fd, const struct command *command, void *bytes)
{
    unsigned char before[512], after[512];
    size_t tail = 0;
    uint32_t size = command->size;
    bool spoiled_size = miss(4);
    const char *bar = " |";
    uintptr_t at;
    long result;
    int error;

    memcpy(&size, bytes, 4);
    if (miss(15)) {
        memcpy(before, bytes, command->size);
        spoil_some_field(command, before);
        if (chance(15))
            spoil_some_field(command, before);
        if (repeatable(command, before))
            memcpy(bytes, before, command->size);
    }
    if (chance(25))
        for (const struct field *field = command->fields; field->name; field++)
            if (!strncmp(field->name, "out_", 4) && strcmp(field->name, "out_data_type"))
                memset((char *)bytes + field->offset, 0xa5, field->width);
    if (spoiled_size) {
        size = odd_size(command, &tail);
        memcpy(bytes, &size, 4);
    }
    at = some_address(&argument_place, command->size, 5);
    clear_place(&argument_place, 0);
    put(&argument_place, at, bytes, command->size);
    if (tail)
        put(&argument_place, at + tail, "\1", 1);
    remember_place(&argument_place);
    remember_place(&data_place);
    remember_other();
    fetch(&argument_place, at, before, command->size);

    print_fd(fd);
    printf(" ");
    print_inputs(command, bytes);
    if (tail)
        printf(" byte%zu", tail);
    if (at != (uintptr_t)argument_place.base + 0x100) {
        printf(" at ");
        print_pointer(at);
    }
    fflush(stdout);
    result = ioctl(fd, command->request, at);
    error = errno;
    if (!print_own_answer(command, result))
        print_result(result);
    fetch(&argument_place, at, after, command->size);
    print_field_changes(command, at, before, after, &bar);
    print_place_changes(&argument_place, at, &bar);
    print_place_changes(&data_place, (uintptr_t)data_place.base + 0x100, &bar);
    print_other_changes(&bar);
    printf("\n");
    memcpy(bytes, after, command->size);
    errno = error;
    return (struct answer){result, size < command->size ? size : command->size};
}

#endif /* NEAR_MISS_H */

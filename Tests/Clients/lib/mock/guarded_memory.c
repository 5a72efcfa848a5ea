/* SPDX-License-Identifier: Apache-2.0 */
#include "mock/guarded_memory.h"

static bool is_writable(size_t page)
{
    return page < 2 || page == 4;
}

void make_guarded_memory(struct guarded_memory *memory, const char *name, uintptr_t address)
{
    int file = memfd_create(name, MFD_CLOEXEC);

    memory->name = name;
    memory->base = map_region_at(name, address, GUARDED_PAGES * PAGE, PROT_READ | PROT_WRITE);
    if (file < 0 || ftruncate(file, PAGE) ||
        mmap(memory->base + 2 * PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) ==
            MAP_FAILED)
        abort();
    memory->read_only = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory->read_only == MAP_FAILED)
        abort();
    close(file);
    munmap(memory->base + 3 * PAGE, PAGE);
    munmap(memory->base + 5 * PAGE, PAGE);
}

/** Returns a writable address of the byte at `address`, or NULL in a hole. */
static unsigned char *byte_at(const struct guarded_memory *memory, uintptr_t address)
{
    uintptr_t offset = address - (uintptr_t)memory->base;

    if (offset >= GUARDED_PAGES * PAGE || offset / PAGE == 3 || offset / PAGE == 5)
        return NULL;
    return offset / PAGE == 2 ? memory->read_only + offset % PAGE : memory->base + offset;
}

void write_guarded(const struct guarded_memory *memory, uintptr_t address, const void *bytes,
                   size_t length)
{
    for (size_t i = 0; i != length; i++) {
        unsigned char *byte = byte_at(memory, address + i);

        if (byte)
            *byte = ((const unsigned char *)bytes)[i];
    }
}

void read_guarded(const struct guarded_memory *memory, uintptr_t address, void *bytes,
                  size_t length)
{
    for (size_t i = 0; i != length; i++) {
        const unsigned char *byte = byte_at(memory, address + i);

        ((unsigned char *)bytes)[i] = byte ? *byte : 0;
    }
}

void fill_guarded(const struct guarded_memory *memory, unsigned char value)
{
    for (size_t page = 0; page != 5; page++)
        if (is_writable(page))
            memset(memory->base + page * PAGE, value, PAGE);
    memset(memory->read_only, value, PAGE);
}

void snapshot_guarded(struct guarded_memory *memory)
{
    for (size_t page = 0; page != 5; page++)
        if (is_writable(page))
            memcpy(memory->before + page * PAGE, memory->base + page * PAGE, PAGE);
}

void ignore_guarded_changes(struct guarded_memory *memory, uintptr_t address, size_t length)
{
    for (size_t i = 0; i != length; i++) {
        uintptr_t offset = address + i - (uintptr_t)memory->base;

        if (offset < GUARDED_PAGES * PAGE && is_writable(offset / PAGE))
            memory->before[offset] = memory->base[offset];
    }
}

static uint64_t hash_of(const unsigned char *bytes, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325;

    for (size_t i = 0; i != length; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

void print_byte_run(const char *name, long offset, const unsigned char *bytes, size_t length,
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

void print_guarded_changes(const struct guarded_memory *memory, uintptr_t origin, const char **bar)
{
    for (size_t page = 0; page != 5; page++) {
        const unsigned char *now = memory->base + page * PAGE, *old = memory->before + page * PAGE;

        if (!is_writable(page) || !memcmp(now, old, PAGE))
            continue;
        for (size_t at = 0; at != PAGE; at++) {
            size_t end = at;

            while (end != PAGE && now[end] != old[end])
                end++;
            if (end == at)
                continue;
            print_byte_run(memory->name, (long)((uintptr_t)now + at - origin), now + at, end - at,
                           bar);
            at = end - 1;
        }
    }
}

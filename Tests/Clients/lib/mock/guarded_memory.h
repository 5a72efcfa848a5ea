/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory with guard pages, for structs and for what they point to: two writable pages, a read-only
 * one, a hole, a writable one, a hole. A struct that begins k bytes before one of the three borders
 * can be read or written only up to that border.
 */
#ifndef GUARDED_MEMORY_H
#define GUARDED_MEMORY_H

#include "transcript/named.h"

enum { GUARDED_PAGES = 6 };

struct guarded_memory {
    const char *name;
    unsigned char *base;
    unsigned char *read_only; /* a second, writable mapping of the read-only page */
    /* the bytes of the writable pages before the call */
    unsigned char before[GUARDED_PAGES * PAGE];
};

/**
 * Offsets of the borders: where the writable pages end, the read-only page ends, the last page
 * ends.
 */
static const size_t guarded_borders[] = {2 * PAGE, 3 * PAGE, 5 * PAGE};

/** Maps the memory at an address, and names it. */
void make_guarded_memory(struct guarded_memory *memory, const char *name, uintptr_t address);

/** Stores bytes at an address, as far as there is memory. Writes to the read-only page, too. */
void write_guarded(const struct guarded_memory *memory, uintptr_t address, const void *bytes,
                   size_t length);

/** Loads bytes from an address. Bytes in a hole are 0. */
void read_guarded(const struct guarded_memory *memory, uintptr_t address, void *bytes,
                  size_t length);

/** Sets all bytes to `value`. */
void fill_guarded(const struct guarded_memory *memory, unsigned char value);

/** Copies the writable pages, to compare them after the call. */
void snapshot_guarded(struct guarded_memory *memory);

/** Removes bytes from what print_guarded_changes() will print. */
void ignore_guarded_changes(struct guarded_memory *memory, uintptr_t address, size_t length);

/**
 * Prints runs of changed bytes by their distance from `origin`. `*bar` is printed before the first
 * run.
 */
void print_guarded_changes(const struct guarded_memory *memory, uintptr_t origin, const char **bar);

/**
 * Prints a run of bytes; of more than 24 bytes their number and a hash. `*bar` is printed before
 * it.
 */
void print_byte_run(const char *name, long offset, const unsigned char *bytes, size_t length,
                    const char **bar);

#endif /* GUARDED_MEMORY_H */

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of errnos, memory regions and file descriptors. A transcript prints these names instead of
 * addresses and numbers, so that it does not depend on where memory lies or which numbers are free.
 */
#ifndef NAMED_H
#define NAMED_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- results ---------------------------------------------------------------------------- */

/**
 * Returns "EINVAL", or "errno" and the number when it has no name. The next call overwrites the
 * latter.
 */
const char *errno_name(int value);

/**
 * Prints ` -> 0`, ` -> 5` or, when `result` is negative, ` -> ` and the name of errno. Does not
 * change errno.
 */
void print_result(long result);

/* ---- memory regions --------------------------------------------------------------------- */

/** Names [base, base + length). A region that has the name already is replaced. */
void name_region(const char *name, void *base, size_t length);

/**
 * Maps anonymous private memory at an address that is the same in every run, and names it.
 * Automatic IOVA allocation depends on the user address, so the address must not be random. Exits
 * when something is there.
 */
void *map_region_at(const char *name, uintptr_t address, size_t length, int protection);

/** The memory that a client maps into IOASes. */
extern unsigned char *buffer;

/** Maps `buffer`, at the same address in every run. */
void make_buffer(size_t pages);

/** Names the region, and from now on prints every byte of it that a call changes. */
void watch(const char *name, void *base, size_t length);

/** Stops printing changes. The region keeps its name. */
void unwatch(const char *name);

/**
 * Prints an address as REGION+OFFSET. The end of a region counts as REGION+LENGTH unless another
 * begins there.
 */
void print_pointer(uint64_t value);

/** Copies the watched regions, to compare them after the call. */
void snapshot_watched(void);

/**
 * Prints one item for each run of changed 8-byte words in the watched regions:
 * `name+0x10:1000,1fff`. `*bar` is printed before the first item and is "" after it.
 */
void print_watched_changes(const char **bar);

/* ---- file descriptors ------------------------------------------------------------------- */

/**
 * Names a file descriptor, and returns it. Front ends give descriptors different numbers. Exits
 * when `fd` is negative.
 */
int name_fd(const char *name, int fd);

/** Gives the name to another descriptor. A name that is new is added unless `fd` is negative. */
void rename_fd(const char *name, int fd);

/** Removes the name that was added last. */
void remove_last_fd_name(void);

void remove_all_fd_names(void);

size_t named_fd_count(void);

/** Returns the descriptor that was named as number `index`, from 0. */
int named_fd(size_t index);

/** Prints the name of a descriptor, or its number when it has none. */
void print_fd(int fd);

#endif /* NAMED_H */

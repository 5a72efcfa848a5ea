/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that miss a valid one by little. A client fills in a valid struct. About one time in four
 * call_on() makes one thing about it wrong: a field gets a neighbouring or extreme value, the
 * struct another length than in Linux 7.3, or the struct lies where it cannot be read or written in
 * full. After the call all changed bytes of the guarded memory are printed, in fields of the struct
 * by name and elsewhere by their distance from the argument.
 */
#ifndef NEAR_MISS_H
#define NEAR_MISS_H

#include "mock/guarded_memory.h"
#include "transcript/transcript.h"

/** What a client supplies. */
struct near_miss_client {
    /** Returns an object ID. */
    uint32_t (*some_id)(void);
    /** Returns a file descriptor. */
    int (*some_fd)(void);
    /** Returns whether the answer to this struct depends on nothing but the calls before it. */
    bool (*is_repeatable)(const struct command *command, const unsigned char *bytes);
    /** Copies the memory that calls may change beside the guarded memory. */
    void (*snapshot)(void);
    /** Prints what has changed there. */
    void (*print_changes)(const char **bar);
    /**
     * Prints the result of a command that print_result() would print wrongly, and returns whether
     * it did.
     */
    bool (*print_result)(const struct command *command, long result);
};

/** The memory of the structs, and the memory that they point to. */
extern struct guarded_memory argument_memory, data_memory;

/** False while a client creates objects that later calls need: should_miss() is then false. */
extern bool misses_enabled;

/** Maps the guarded memory. `client` must stay valid. */
void begin_near_misses(const struct near_miss_client *client);

/**
 * Returns true with a probability of `percent`, unless misses are disabled. Draws a number in both
 * cases.
 */
bool should_miss(unsigned percent);

/**
 * Returns an address in `memory` for `length` bytes. With a probability of `odd` percent it is one
 * where they cannot be read or written in full, or an address outside the memory.
 */
uintptr_t some_address(const struct guarded_memory *memory, size_t length, unsigned odd);

/**
 * Returns a value for a field of `width` bytes that is extreme or differs from `value` by little.
 */
uint64_t odd_value(uint64_t value, unsigned width);

struct answer {
    long result;
    size_t length; /* of the part of the struct that the call can have filled in */
};

/**
 * Issues the command that `bytes` describe, or one that misses it by little, and prints its line.
 * Afterwards `bytes` are the struct as the call has left it.
 */
struct answer call_on(int fd, const struct command *command, void *bytes);

#endif /* NEAR_MISS_H */

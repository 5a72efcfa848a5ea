/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Randomness that a seed repeats, the same on every machine. One generator for the whole client, so
 * that the seed alone decides its calls. C leaves the order of operands, arguments and initializers to the
 * compiler, so none of these has two that draw: they are drawn by statements before.
 */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

static uint64_t random_state = 1;

/** splitmix64: every seed is a good one. */
static inline uint64_t random_next(void)
{
    uint64_t value = (random_state += 0x9e3779b97f4a7c15);

    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

/** 0 ..< bound */
static inline uint64_t below(uint64_t bound)
{
    return random_next() % bound;
}

static inline bool chance(unsigned percent)
{
    return below(100) < percent;
}

/** Seed and count from the command line. */
static inline void random_arguments(int argc, char **argv, unsigned *count)
{
    if (argc > 1)
        random_state = strtoull(argv[1], NULL, 0);
    if (argc > 2)
        *count = (unsigned)strtoul(argv[2], NULL, 0);
}

#endif /* RANDOM_H */

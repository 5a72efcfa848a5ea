/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pseudo-random numbers that a seed repeats, the same on every machine. A client has one generator,
 * so that the seed alone decides which calls the client makes.
 *
 * C leaves the order in which operands, arguments and initializers are evaluated to the compiler.
 * No expression, argument list or initializer of a client therefore draws two numbers: a statement
 * before it draws them.
 */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdbool.h>
#include <stdint.h>

void random_seed(uint64_t seed);

/** Returns 64 random bits (splitmix64, for which every seed is a good one). */
uint64_t random_next(void);

/** Returns a number in 0 ..< bound. */
uint64_t below(uint64_t bound);

/** Returns true with a probability of `percent`. */
bool chance(unsigned percent);

/** Reads SEED and COUNT from the command line. An argument that is missing changes nothing. */
void read_seed_and_count(int argc, char **argv, unsigned *count);

#endif /* RANDOM_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that the benchmarks time, and the rows that they print. */
#ifndef CALLS_H
#define CALLS_H

/** Returns the time in nanoseconds. */
double now(void);

/** Opens a node. Exits when it cannot be opened. */
int open_node(const char *path);

/** Issues DESTROY of an ID that does not exist: a struct is read, and the call fails. */
void destroy_nothing(int fd);

/** Issues OPTION: a struct is read and written. */
void get_option(int fd);

/** Stores a time in `*best` when it is the first or the shortest one. */
void keep_best(double *best, double nanoseconds);

void print_header(void);

/**
 * Prints a row: the best times of the C program and of the simulator. Returns whether their ratio
 * exceeds `limit`.
 */
int print_row(const char *name, const double best[2], double limit);

#endif /* CALLS_H */

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls that work on any file descriptor: synchronisation, allocation, copies without a buffer,
 * locks, seals, status, polling, asynchronous requests. What they answer depends on the kind of
 * file (struct file_operations), so a client makes all of them on every kind of file that it has.
 */
#ifndef FILE_CALLS_H
#define FILE_CALLS_H

#include <stdbool.h>

/**
 * Makes every call on `fd`, and prints a line for each. The calls leave `fd` as it was. Reads, writes
 * and mappings are left out when `has_memory`: they would use the device's registers.
 */
void print_file_calls(int fd, bool has_memory);

/** Prints what fstat(2), F_GETFL and the link in /proc say about `fd`. */
void print_description(int fd);

#endif /* FILE_CALLS_H */

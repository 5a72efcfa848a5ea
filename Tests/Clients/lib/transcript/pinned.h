/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PINNED_H
#define PINNED_H

/**
 * Prints the lines VmLck and VmPin of /proc/self/status: the pages that are locked and pinned for
 * the client.
 */
void print_pinned(void);

/** Sets the soft RLIMIT_MEMLOCK and prints the result. */
void set_memlock_limit(unsigned pages);

#endif /* PINNED_H */

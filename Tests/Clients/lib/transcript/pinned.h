/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PINNED_H
#define PINNED_H

/**
 * Prints the lines VmLck and VmPin of /proc/self/status: the pages that are locked and pinned for
 * the client.
 */
void print_pinned(void);

#endif /* PINNED_H */

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory whose pages arrive late: the client serves its page faults itself (userfaultfd(2)). A call
 * that needs such a page waits until the client supplies it. The call is made by a thread of its
 * own, and its line is printed when it has returned; the client makes other calls meanwhile.
 */
#ifndef LATE_H
#define LATE_H

#include "transcript/transcript.h"

#include <pthread.h>

/**
 * Opens the userfaultfd. Must be called before begin(), because an unprivileged process may not
 * serve faults of the kernel.
 */
void late_open(void);

/** Maps private memory whose pages are not there, at an address that is the same in every run. */
unsigned char *late_memory(const char *name, uintptr_t address, size_t pages);

/** Waits until a call needs a page of late memory. Exits when none does within 60 seconds. */
void await_fault(void);

/** Supplies zeroed pages, and ends the waits for them. */
void supply(unsigned char *memory, size_t pages);

/** Unmaps the memory, and ends the waits for it. */
void forget(unsigned char *memory, size_t pages);

/** A command that another thread issues on `iommufd`. */
struct background {
    const struct command *command;
    unsigned char before[512], argument[512];
    long result;
    int error;
    pthread_t thread;
};

/** Starts the command with a copy of `argument`. */
void begin_call(struct background *call, const struct command *command, const void *argument);

/** Waits for the end of the command, prints its line and returns its result. */
long end_call(struct background *call);

/** Lets a call that was begun come as far as it can without late memory. */
void let_wait(void);

#endif /* LATE_H */

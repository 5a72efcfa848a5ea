/* SPDX-License-Identifier: Apache-2.0 */
/* Passing a file descriptor over a Unix socket (SCM_RIGHTS). */
#ifndef PASSED_FD_H
#define PASSED_FD_H

#include <stdbool.h>

/** Sends `fd` with one byte of data. Returns whether it was sent. */
bool send_fd(int socket, int fd);

/** Receives a message of one byte. Returns the file descriptor that came with it, or -1. */
int receive_fd(int socket);

#endif /* PASSED_FD_H */

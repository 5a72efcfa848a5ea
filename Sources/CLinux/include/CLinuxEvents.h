// SPDX-License-Identifier: Apache-2.0

// Eventfds of other processes, which are signalled, read and watched without blocking.
#pragma once

#include <stddef.h>
#include <semaphore.h>
#include <stdint.h>
#include <sys/types.h>

/// io_setup(2): stores a context for CLinux_eventfd_signal(). Returns 0 or -errno.
int CLinux_io_setup(uint64_t *context);
/// Adds 1 to the eventfd's counter, or leaves the counter at its limit, where write(2) would block.
/// The kernel signals the eventfd on completion of an asynchronous read (io_submit(2),
/// IOCB_FLAG_RESFD) of 0 bytes from `empty`, an open /dev/null; io_getevents(2) removes the
/// completion. Returns 0 or -errno.
int CLinux_eventfd_signal(uint64_t context, int empty, int event);
/// preadv2(2) with RWF_NOWAIT. Returns the bytes read, -EAGAIN where read(2) would block, or
/// another -errno.
ssize_t CLinux_read_nowait(int descriptor, void *buffer, size_t count);

/// epoll_create1(2), close-on-exec. Returns a descriptor or -errno.
int CLinux_epoll_create(void);
/// EPOLL_CTL_ADD of `descriptor` for EPOLLIN, with `key` as its data. Returns 0 or -errno.
int CLinux_epoll_add(int epoll, int descriptor, uint64_t key);
/// EPOLL_CTL_DEL. Returns 0 or -errno.
int CLinux_epoll_remove(int epoll, int descriptor);
/// epoll_wait(2) for one event, without a timeout. Stores the key of the descriptor. Returns 0 or
/// -errno.
int CLinux_epoll_wait(int epoll, uint64_t *key);

/// Decrements the counter of a semaphore, for which it waits until `end`, in milliseconds of
/// CLOCK_MONOTONIC. Returns 0, or -ETIMEDOUT when the counter stayed 0.
int CLinux_semaphore_wait(sem_t *semaphore, int64_t end);

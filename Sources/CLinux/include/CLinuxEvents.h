// Another process's eventfds: signalled, read and watched without ever waiting for their owner.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// A context for CLinux_eventfd_signal() (io_setup(2)), stored in `context`. Returns 0 or -errno.
int CLinux_aio_setup(uint64_t *context);
/// Adds 1 to the eventfd, or leaves it at its limit, where write(2) would block: the kernel does it at
/// the end of an asynchronous read of 0 bytes from `empty`, an open /dev/null. Returns 0 or -errno.
int CLinux_eventfd_signal(uint64_t context, int empty, int event);
/// preadv2(2) with RWF_NOWAIT: bytes read or -errno, -EAGAIN where read(2) would block.
ssize_t CLinux_read_nowait(int descriptor, void *buffer, size_t count);

/// epoll_create1(2), close-on-exec. Returns a descriptor or -errno.
int CLinux_epoll_create(void);
/// Waits for input on `descriptor` too, as `key`. Returns 0 or -errno.
int CLinux_epoll_add(int epoll, int descriptor, uint64_t key);
int CLinux_epoll_remove(int epoll, int descriptor);
/// Waits, without limit, for one descriptor that has input. Returns 0 and its key, or -errno.
int CLinux_epoll_wait(int epoll, uint64_t *key);

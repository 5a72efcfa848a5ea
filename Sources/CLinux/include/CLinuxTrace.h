// SPDX-License-Identifier: Apache-2.0

// System calls of a front end that works in another process: ptrace(2), descriptors over sockets.
#pragma once

#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
// sys/user.h defines common words as macros.
#undef PAGE_MASK
#undef PAGE_SHIFT
#undef PAGE_SIZE

/// The ptrace(2) system call, without glibc's handling of PEEK requests. Returns -errno on failure.
long CLinux_ptrace(int request, pid_t task, uint64_t address, uint64_t data);

/// The system call `number`, with six arguments. Returns its result or -errno.
long CLinux_syscall(long number, const uint64_t *arguments);

/// sendmsg(2) of one byte and one descriptor (SCM_RIGHTS). Returns 1 or -errno.
int CLinux_send_descriptor(int socket, int descriptor);

/// recvmsg(2) of a message of CLinux_send_descriptor(). Returns the descriptor, close-on-exec,
/// -ENOTCONN when the other end is closed, or another -errno.
int CLinux_receive_descriptor(int socket);

/// fork(2) in a process that has one thread. The child starts a session of its own, changes to the
/// root directory, has /dev/null as its standard files, `descriptor` as descriptor 3 and no other
/// descriptor; it calls `body(3)` and ends. Returns the child's process ID or -errno.
pid_t CLinux_fork_helper(int descriptor, void (*body)(int));

/// prctl(2) with PR_SET_NAME: names the calling thread. The kernel keeps 15 bytes.
void CLinux_set_thread_name(const char *name);

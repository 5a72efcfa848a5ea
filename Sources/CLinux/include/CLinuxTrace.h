// What a front end needs to work in another process: ptrace(2), descriptors over sockets.
#pragma once

#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
// sys/user.h defines common words as macros.
#undef PAGE_MASK
#undef PAGE_SHIFT
#undef PAGE_SIZE

/// ptrace(2) as the kernel has it. Returns -errno on failure.
long CLinux_ptrace(int request, pid_t task, uint64_t address, uint64_t data);

/// sendmsg(2) of one byte and one descriptor (SCM_RIGHTS). Returns 1 or -errno.
int CLinux_send_descriptor(int socket, int descriptor);

/// recvmsg(2) of what CLinux_send_descriptor() sends. Returns the descriptor, close-on-exec, or -errno;
/// -ENOTCONN when nobody is at the other end.
int CLinux_receive_descriptor(int socket);

/// fork(2) of a process that has one thread. The child leaves session and directory, has /dev/null as
/// its standard files and `descriptor` as number 3, nothing else; it calls `body(3)` and ends. Returns
/// the child's id or -errno.
pid_t CLinux_fork_helper(int descriptor, void (*body)(int));

/// Names the calling thread; the kernel keeps 15 bytes.
void CLinux_set_thread_name(const char *name);

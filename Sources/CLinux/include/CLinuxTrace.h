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

/// Names the calling thread; the kernel keeps 15 bytes.
void CLinux_set_thread_name(const char *name);

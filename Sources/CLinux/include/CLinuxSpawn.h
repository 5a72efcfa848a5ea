// SPDX-License-Identifier: Apache-2.0

// Starting a program under a seccomp filter. This is C because between fork and exec the child of a
// multi-threaded process may only call async-signal-safe functions, and Swift code gives no such
// guarantee.
#pragma once

#include <linux/filter.h>
#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

/// The step that a report of the child is about.
enum CLinux_spawn_stage {
  /// The filter is installed. The message carries the listener descriptor (SCM_RIGHTS).
  CLinux_spawn_listening = 1,
  /// PR_SET_NO_NEW_PRIVS failed.
  CLinux_spawn_privileges = 2,
  /// seccomp(2) refused the filter.
  CLinux_spawn_filter = 3,
  /// execvpe(3) failed.
  CLinux_spawn_exec = 4,
};

/// The message that the child sends to the parent.
struct CLinux_spawn_report {
  /// An enum CLinux_spawn_stage.
  int32_t stage;
  /// The errno of the failure, or 0.
  int32_t error;
};

struct CLinux_spawn {
  /// The program, which is searched for in $PATH when it has no slash.
  const char *program;
  /// NULL-terminated, the program's name included.
  char *const *arguments;
  struct sock_filter *filter;
  uint16_t filter_length;
  /// The least soft RLIMIT_NOFILE of the program, as far as the hard limit allows.
  uint64_t descriptor_limit;
  /// The signal mask that the program starts with.
  sigset_t signal_mask;
  /// The close-on-exec socket for the child's reports. The parent's end reads end of file when the
  /// program runs.
  int reports;
};

/// Forks a child, which installs the filter, sends a report and executes the program. Returns the
/// child's process ID or -errno.
pid_t CLinux_spawn_filtered(const struct CLinux_spawn *spawn);
/// Receives one report and the descriptor that it carries (-1 when it carries none). Returns 1, 0
/// at end of file, or -errno.
int CLinux_spawn_receive(int socket, struct CLinux_spawn_report *report, int *descriptor);

/// si_pid and si_status, which Swift does not import because they are macros.
pid_t CLinux_siginfo_pid(const siginfo_t *information);
int CLinux_siginfo_status(const siginfo_t *information);

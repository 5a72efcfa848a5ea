// A child under a seccomp filter. It is C because between fork and exec only async-signal-safe
// functions may run in the child of a threaded process, which no Swift code is.
#pragma once

#include <linux/filter.h>
#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

/// How far the child came; sent to the parent.
enum CLinux_spawn_stage {
  /// The filter is installed; its listener is attached to the message.
  CLinux_spawn_listening = 1,
  /// PR_SET_NO_NEW_PRIVS failed.
  CLinux_spawn_privileges = 2,
  /// seccomp(2) refused the filter.
  CLinux_spawn_filter = 3,
  /// execvpe(3) failed.
  CLinux_spawn_exec = 4,
};

struct CLinux_spawn_report {
  int32_t stage;
  int32_t error;
};

struct CLinux_spawn {
  /// The program, looked up in $PATH when it has no slash, and its NULL-terminated arguments.
  const char *program;
  char *const *arguments;
  struct sock_filter *filter;
  uint16_t filter_length;
  /// The soft RLIMIT_NOFILE is raised to this where it is lower and the hard limit allows.
  uint64_t descriptor_limit;
  /// The signal mask PROGRAM starts with.
  sigset_t signal_mask;
  /// Close-on-exec socket of the child's reports; end of file on the other end means "running".
  int reports;
};

/// Forks; the child installs the filter, reports, and executes the program.
/// Returns the child's process id or -errno.
pid_t CLinux_spawn_filtered(const struct CLinux_spawn *spawn);
/// Receives one report and the descriptor that came with it (-1 when none did).
/// Returns 1, 0 at end of file, or -errno.
int CLinux_spawn_receive(int socket, struct CLinux_spawn_report *report, int *descriptor);

/// si_pid and si_status, which are macros over a union.
pid_t CLinux_siginfo_pid(const siginfo_t *information);
int CLinux_siginfo_status(const siginfo_t *information);

// SPDX-License-Identifier: Apache-2.0

// What this process was started with: arguments, limits, signal dispositions, standard descriptors.
#pragma once

/// The arguments of main(), the program's name included. The Swift runtime reads them from
/// /proc/self/cmdline, which is not there when /proc is not mounted.
int CLinux_argument_count(void);
const char *CLinux_argument(int index);

/// Makes this process independent of what its parent left to it. Has an effect once.
///
///   - Descriptors 0, 1 and 2 are occupied when they are closed, so that no file of this process
///     gets their numbers. A read or write there is EBADF as before, and a program that this
///     process executes finds them closed.
///   - SIGXFSZ is ignored, so that a write beyond RLIMIT_FSIZE is EFBIG, and the soft limit becomes
///     the hard limit: the limit of files on disk is no limit of memfds.
///   - SIGCHLD has its default disposition. While it is ignored the kernel reaps children itself
///     (sigaction(2)).
void CLinux_prepare_process(void);

/// Restores what ``CLinux_prepare_process()`` and later calls of setrlimit(2) have changed: the
/// dispositions, RLIMIT_FSIZE and RLIMIT_NOFILE. For a child before exec; async-signal-safe.
void CLinux_restore_inherited(void);

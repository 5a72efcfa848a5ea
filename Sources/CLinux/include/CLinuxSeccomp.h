// SPDX-License-Identifier: Apache-2.0

// The supervisor's side of seccomp user notification (seccomp_unotify(2)).
#pragma once

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>

/// Values of <linux/…> macros that Swift does not import.
extern const uint32_t CLinux_SECCOMP_RET_ALLOW;
extern const uint32_t CLinux_SECCOMP_RET_USER_NOTIF;
extern const uint32_t CLinux_AUDIT_ARCH_X86_64;
extern const uint32_t CLinux_AUDIT_ARCH_I386;
extern const uint32_t CLinux_AUDIT_ARCH_AARCH64;

/// SECCOMP_IOCTL_NOTIF_RECV. Zeroes `notification` first, as the kernel requires. Returns 0 or
/// -errno.
int CLinux_seccomp_receive(int listener, struct seccomp_notif *notification);
/// SECCOMP_IOCTL_NOTIF_SEND. Returns 0 or -errno.
int CLinux_seccomp_send(int listener, const struct seccomp_notif_resp *response);
/// SECCOMP_IOCTL_NOTIF_ADDFD. Returns the number of the new descriptor in the target, or -errno.
int CLinux_seccomp_add_descriptor(int listener, const struct seccomp_notif_addfd *request);
/// SECCOMP_IOCTL_NOTIF_ID_VALID. Returns 0 while the thread waits for the response, -ENOENT
/// afterwards.
int CLinux_seccomp_id_valid(int listener, uint64_t id);
/// SECCOMP_IOCTL_NOTIF_SET_FLAGS with SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (Linux 6.6): a thread that
/// makes a call and the supervisor that answers run on one processor, instead of each being woken
/// on another. Returns 0 or -errno.
int CLinux_seccomp_set_synchronous_wakeup(int listener);

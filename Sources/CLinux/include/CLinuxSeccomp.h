// Seccomp user notification (seccomp_unotify(2)): the supervisor's side.
#pragma once

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>

/// The values of <linux/…> macros that Swift does not import, as linked constants.
extern const uint32_t CLinux_SECCOMP_RET_ALLOW;
extern const uint32_t CLinux_SECCOMP_RET_USER_NOTIF;
extern const uint32_t CLinux_AUDIT_ARCH_X86_64;
extern const uint32_t CLinux_AUDIT_ARCH_I386;
extern const uint32_t CLinux_AUDIT_ARCH_AARCH64;

/// SECCOMP_IOCTL_NOTIF_RECV. `notification` is zeroed first, as the kernel demands.
int CLinux_seccomp_receive(int listener, struct seccomp_notif *notification);
/// SECCOMP_IOCTL_NOTIF_SEND.
int CLinux_seccomp_send(int listener, const struct seccomp_notif_resp *response);
/// SECCOMP_IOCTL_NOTIF_ADDFD. Returns the descriptor's number in the target, or -errno.
int CLinux_seccomp_add_descriptor(int listener, const struct seccomp_notif_addfd *request);
/// SECCOMP_IOCTL_NOTIF_ID_VALID: 0 while the notified thread still waits, -ENOENT when it is gone.
int CLinux_seccomp_id_valid(int listener, uint64_t id);
/// SECCOMP_IOCTL_NOTIF_SET_FLAGS with SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (Linux 6.6): the notified
/// thread and the supervisor hand over one processor instead of waking each other on another.
int CLinux_seccomp_set_synchronous_wakeup(int listener);

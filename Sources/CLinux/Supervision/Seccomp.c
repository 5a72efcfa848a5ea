// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CLinuxSeccomp.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

const uint32_t CLinux_SECCOMP_RET_ALLOW = SECCOMP_RET_ALLOW;
const uint32_t CLinux_SECCOMP_RET_USER_NOTIF = SECCOMP_RET_USER_NOTIF;
const uint32_t CLinux_AUDIT_ARCH_X86_64 = AUDIT_ARCH_X86_64;
const uint32_t CLinux_AUDIT_ARCH_I386 = AUDIT_ARCH_I386;
const uint32_t CLinux_AUDIT_ARCH_AARCH64 = AUDIT_ARCH_AARCH64;

static int result(int value) { return value < 0 ? -errno : value; }

int CLinux_seccomp_receive(int listener, struct seccomp_notif *notification) {
  memset(notification, 0, sizeof *notification);
  return result(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, notification));
}

int CLinux_seccomp_send(int listener, const struct seccomp_notif_resp *response) {
  return result(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, response));
}

int CLinux_seccomp_add_descriptor(int listener, const struct seccomp_notif_addfd *request) {
  return result(ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, request));
}

int CLinux_seccomp_id_valid(int listener, uint64_t id) {
  return result(ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id));
}

int CLinux_seccomp_set_synchronous_wakeup(int listener) {
  unsigned long flags = SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP;
  return result(ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags));
}

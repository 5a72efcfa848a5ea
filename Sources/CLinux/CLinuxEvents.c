// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <linux/aio_abi.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

int CLinux_io_setup(uint64_t *context) {
  aio_context_t created = 0;
  if (syscall(SYS_io_setup, 64U, &created) != 0) return -errno;
  *context = created;
  return 0;
}

int CLinux_eventfd_signal(uint64_t context, int empty, int event) {
  struct iocb request = {
      .aio_lio_opcode = IOCB_CMD_PREAD,
      .aio_fildes = (uint32_t)empty,
      .aio_flags = IOCB_FLAG_RESFD,
      .aio_resfd = (uint32_t)event,
  };
  struct iocb *requests[] = {&request};
  if (syscall(SYS_io_submit, (aio_context_t)context, 1L, requests) != 1) return -errno;
  struct io_event done;
  while (syscall(SYS_io_getevents, (aio_context_t)context, 1L, 1L, &done, NULL) != 1) {
    if (errno != EINTR) return -errno;
  }
  return 0;
}

ssize_t CLinux_read_nowait(int descriptor, void *buffer, size_t count) {
  struct iovec vector = {buffer, count};
  ssize_t moved = preadv2(descriptor, &vector, 1, -1, RWF_NOWAIT);
  return moved < 0 ? -errno : moved;
}

int CLinux_epoll_create(void) {
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  return epoll < 0 ? -errno : epoll;
}

int CLinux_epoll_add(int epoll, int descriptor, uint64_t key) {
  struct epoll_event interest = {.events = EPOLLIN, .data.u64 = key};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &interest) < 0 ? -errno : 0;
}

int CLinux_epoll_remove(int epoll, int descriptor) {
  return epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, NULL) < 0 ? -errno : 0;
}

int CLinux_epoll_wait(int epoll, uint64_t *key) {
  struct epoll_event ready;
  int count = epoll_wait(epoll, &ready, 1, -1);
  if (count < 0) return -errno;
  if (count == 0) return -EAGAIN;
  *key = ready.data.u64;
  return 0;
}

int CLinux_semaphore_wait(sem_t *semaphore, int64_t end) {
  const struct timespec time = {.tv_sec = end / 1000, .tv_nsec = end % 1000 * 1000000};
  while (sem_clockwait(semaphore, CLOCK_MONOTONIC, &time) < 0)
    if (errno != EINTR) return -errno;
  return 0;
}

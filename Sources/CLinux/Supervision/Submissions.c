// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CLinuxSubmissions.h"

#include <linux/io_uring.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/utsname.h>

_Static_assert(sizeof(struct CLinux_submission) == sizeof(struct io_uring_sqe), "size of an SQE");
_Static_assert(offsetof(struct CLinux_submission, user_data) ==
                   offsetof(struct io_uring_sqe, user_data),
               "layout of an SQE");

struct CLinux_submission *CLinux_map_submissions(int ring, unsigned int count) {
  void *memory = mmap(NULL, (size_t)count * sizeof(struct CLinux_submission),
                      PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
  return memory == MAP_FAILED ? NULL : memory;
}

void CLinux_unmap_submissions(struct CLinux_submission *first, unsigned int count) {
  munmap(first, (size_t)count * sizeof *first);
}

bool CLinux_can_answer_submissions(void) {
  struct utsname name;
  int major = 0, minor = 0;
  if (uname(&name) == 0) sscanf(name.release, "%d.%d", &major, &minor);
  return major * 100 + minor >= 610;
}

void CLinux_answer_submission(struct CLinux_submission *submission, int result) {
  enum { inject_result = 1 };
  struct CLinux_submission answer = *submission;
  // The kernel looks up no file and no buffer.
  answer.flags &= ~(IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT);
  answer.priority = 0;
  answer.descriptor = -1;
  answer.offset = answer.address = 0;
  answer.length = result;
  answer.operation_flags = inject_result;
  // Without the flag the operation is one that no kernel has, which is EINVAL.
  answer.operation = CLinux_can_answer_submissions() ? IORING_OP_NOP : UINT8_MAX;
  *submission = answer;
}

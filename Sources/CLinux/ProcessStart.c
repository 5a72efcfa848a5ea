// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CLinuxStart.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <unistd.h>

static int argument_count;
static char **arguments;

// glibc passes the arguments of main() to constructors.
__attribute__((constructor)) static void save_arguments(int count, char **vector) {
  argument_count = count;
  arguments = vector;
}

int CLinux_argument_count(void) { return argument_count; }
const char *CLinux_argument(int index) { return arguments[index]; }

static bool is_prepared;
static struct rlimit file_size, descriptors;
static struct sigaction child_ended, file_too_large;

static void occupy_standard_descriptors(void) {
  // A descriptor that is open with O_PATH can neither be read nor written (EBADF).
  for (int number = 0; number <= 2; number++)
    if (fcntl(number, F_GETFD) < 0 && errno == EBADF) open("/", O_PATH | O_CLOEXEC);
}

void CLinux_prepare_process(void) {
  if (is_prepared) return;
  is_prepared = true;
  occupy_standard_descriptors();
  getrlimit(RLIMIT_NOFILE, &descriptors);
  getrlimit(RLIMIT_FSIZE, &file_size);
  struct rlimit most = {file_size.rlim_max, file_size.rlim_max};
  setrlimit(RLIMIT_FSIZE, &most);
  sigaction(SIGXFSZ, &(struct sigaction){.sa_handler = SIG_IGN}, &file_too_large);
  sigaction(SIGCHLD, &(struct sigaction){.sa_handler = SIG_DFL}, &child_ended);
}

void CLinux_restore_inherited(void) {
  if (!is_prepared) return;
  setrlimit(RLIMIT_NOFILE, &descriptors);
  setrlimit(RLIMIT_FSIZE, &file_size);
  sigaction(SIGXFSZ, &file_too_large, NULL);
  sigaction(SIGCHLD, &child_ended, NULL);
}

// SPDX-License-Identifier: Apache-2.0

// libfuse 3's interface for character devices in user space, in the version that CUSEFront uses.
#define FUSE_USE_VERSION 314
#include <fuse3/cuse_lowlevel.h>

#define FUSE_USE_VERSION 314
#include <fuse3/cuse_lowlevel.h>

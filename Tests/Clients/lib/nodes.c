/* SPDX-License-Identifier: Apache-2.0 */
#include "nodes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *iommufd_path(void)
{
    const char *path = getenv("IOMMUFD");

    return path ? path : "/dev/iommu";
}

static int must_be_open(int fd, const char *path)
{
    if (fd < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(2);
    }
    return fd;
}

int open_iommufd(void)
{
    return must_be_open(open(iommufd_path(), O_RDWR | O_CLOEXEC), iommufd_path());
}

static void vfio_path(char path[static 256], int index)
{
    const char *prefix = getenv("VFIO_DEVICES");

    if (!prefix)
        prefix = strstr(iommufd_path(), "-sim") ? "/dev/vfio-sim/devices/vfio"
                                                : "/dev/vfio/devices/vfio";
    snprintf(path, 256, "%s%d", prefix, index);
}

int open_vfio_device(int index)
{
    char path[256];

    vfio_path(path, index);
    return open(path, O_RDWR | O_CLOEXEC);
}

int must_open_vfio_device(int index)
{
    char path[256];

    vfio_path(path, index);
    return must_be_open(open(path, O_RDWR | O_CLOEXEC), path);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VFIO_IOMMU_PASID_REQUEST in its forms, and processes to whom PASIDs do not belong.
 */
#ifndef PASIDS_H
#define PASIDS_H

#include "vfio/test_device.h"

#include <sys/wait.h>

#define LAST_PASID 0xfffffu

static inline long request(int fd, uint32_t argsz, uint32_t flags, uint32_t min, uint32_t max,
                           uint32_t *result)
{
    struct vfio_iommu_type1_pasid_request cmd = {
        .argsz = argsz, .flags = flags, .alloc_pasid = {min, max, 0xdead}};
    long status = ioctl(fd, VFIO_IOMMU_PASID_REQUEST, &cmd);

    if (result)
        *result = cmd.alloc_pasid.result;
    return status;
}

static inline long allocate(int fd, uint32_t min, uint32_t max, uint32_t *pasid)
{
    return request(fd, sizeof(struct vfio_iommu_type1_pasid_request), VFIO_IOMMU_PASID_ALLOC, min,
                   max, pasid);
}

static inline long free_pasid(int fd, uint32_t pasid)
{
    return request(fd, sizeof(struct vfio_iommu_type1_pasid_request), VFIO_IOMMU_PASID_FREE, pasid,
                   0, NULL);
}

/** Of the form with a range. */
static inline long in_range(int fd, uint32_t flags, uint32_t min, uint32_t max)
{
    return request(fd, 16, flags, min, max, NULL);
}

/** In a process of its own, with `action`'s result as its status. */
static inline int elsewhere(int (*action)(void))
{
    int status = -1;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (!child)
        _exit(action());
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        give_up("no other process");
    return WEXITSTATUS(status);
}

#endif /* PASIDS_H */

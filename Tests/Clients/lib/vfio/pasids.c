/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/pasids.h"

#include <sys/wait.h>

long pasid_request(int fd, uint32_t argsz, uint32_t flags, uint32_t min, uint32_t max,
                   uint32_t *result)
{
    struct vfio_iommu_type1_pasid_request cmd = {
        .argsz = argsz, .flags = flags, .alloc_pasid = {min, max, 0xdead}};
    long status = ioctl(fd, VFIO_IOMMU_PASID_REQUEST, &cmd);

    if (result)
        *result = cmd.alloc_pasid.result;
    return status;
}

long allocate_pasid(int fd, uint32_t min, uint32_t max, uint32_t *pasid)
{
    return pasid_request(fd, sizeof(struct vfio_iommu_type1_pasid_request), VFIO_IOMMU_PASID_ALLOC,
                         min, max, pasid);
}

long free_pasid(int fd, uint32_t pasid)
{
    return pasid_request(fd, sizeof(struct vfio_iommu_type1_pasid_request), VFIO_IOMMU_PASID_FREE,
                         pasid, 0, NULL);
}

long pasid_range_request(int fd, uint32_t flags, uint32_t min, uint32_t max)
{
    return pasid_request(fd, 16, flags, min, max, NULL);
}

int in_other_process(int (*action)(void))
{
    int status = -1;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (!child)
        _exit(action());
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        fatal("no other process");
    return WEXITSTATUS(status);
}

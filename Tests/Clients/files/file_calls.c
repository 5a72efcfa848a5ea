/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls that work on any file descriptor, on the files of iommufd: the device, a fault queue, a
 * vEVENTQ, an access.
 */
#include "files/file_calls.h"
#include "mock/mock.h"

int main(void)
{
    struct mock_device device;
    uint32_t ioas, parent, viommu;
    int fd = -1;

    begin("the device");
    print_file_calls(iommufd, false);
    ioas = ioas_alloc();
    mock_domain(ioas, &device);
    section("an access");
    fd = create_access("access", ioas, 0);
    print_file_calls(fd, false);
    section("a fault queue");
    fault_queue_alloc("queue", &fd);
    print_file_calls(fd, false);
    section("a vEVENTQ");
    parent = hwpt_alloc(device.idev, ioas, NEST);
    viommu = viommu_alloc(device.idev, parent, IOMMU_VIOMMU_TYPE_SELFTEST, NULL, 0);
    veventq_alloc("events", viommu, IOMMU_VEVENTQ_TYPE_SELFTEST, 2, &fd);
    print_file_calls(fd, false);
    return 0;
}

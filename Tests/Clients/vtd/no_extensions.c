/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Without its extensions the simulator answers their ioctl numbers, types and lengths as Linux
 * does.
 *
 *   no_extensions [--vtd]     --vtd: also those that need a device behind a VT-d unit
 */
#include "guest/vtd.h"

static int iommufd;

static long set_container(void)
{
    struct iommu_ioas_alloc ioas = {.size = sizeof(ioas)};
    struct iommu_vfio_ioas cmd = {.size = sizeof(cmd), .op = IOMMU_VFIO_IOAS_SET};

    if (ioctl(iommufd, IOMMU_IOAS_ALLOC, &ioas))
        fatal("IOAS_ALLOC: %s", strerror(errno));
    cmd.ioas_id = ioas.out_ioas_id;
    return ioctl(iommufd, IOMMU_VFIO_IOAS, &cmd);
}

static void test_sva(void)
{
    struct vfio_iommu_type1_pasid_request request = {
        .argsz = sizeof(request), .flags = VFIO_IOMMU_PASID_ALLOC, .alloc_pasid = {1, 100, 0}};
    struct vfio_iommu_type1_cache_invalidate invalidate = {.argsz = sizeof(invalidate)};

    check_errno(ioctl(iommufd, VFIO_IOMMU_PASID_REQUEST, &request), ENOTTY, "a PASID");
    check_errno(ioctl(iommufd, VFIO_IOMMU_PASID_REQUEST, NULL), ENOTTY, "without argument");
    check_errno(ioctl(iommufd, VFIO_IOMMU_BIND, &request), ENOTTY, "a table");
    check_errno(ioctl(iommufd, VFIO_IOMMU_CACHE_INVALIDATE, &invalidate), ENOTTY,
                "an invalidation");
    check_number((uint64_t)ioctl(iommufd, VFIO_CHECK_EXTENSION, VFIO_TYPE1_NESTING_IOMMU), 0,
                 "VFIO_TYPE1_NESTING_IOMMU is not there");
    check_errno(ioctl(iommufd, VFIO_SET_IOMMU, VFIO_TYPE1_NESTING_IOMMU), EINVAL,
                "nor can it be set");
}

static void test_vtd_failures(void)
{
    struct iommufd_sim_vtd_invalidate_fail fail = {
        .size = sizeof(fail), .dev_id = 1, .operation = 1, .error = 1, .nth = 1};

    check_errno(ioctl(iommufd, IOMMUFD_SIM_VTD_INVALIDATE_FAIL, &fail), ENOTTY,
                "a failure to plan");
}

static void test_vtd_device(void)
{
    struct test_device device = vtd_find_device(iommufd, false);
    struct guest guest = vtd_make_guest(iommufd, &device, true, 0);
    struct iommufd_sim_vtd_s1_invalidate entry = {.npages = UINT64_MAX};
    struct iommu_viommu_alloc viommu =
        viommu_arguments(device.id, guest.parent, IOMMUFD_SIM_VIOMMU_TYPE_VTD, NULL, 0);
    uint32_t hwpt = vtd_make_nested(&guest, &device, allocate_table(&guest));
    struct iommu_hwpt_invalidate cmd = invalidate_arguments(
        hwpt, IOMMU_HWPT_INVALIDATE_DATA_VTD_S1, &entry, sizeof(entry), 1);

    check_errno(ioctl(iommufd, IOMMU_HWPT_INVALIDATE, &cmd), EINVAL, "an entry of 32 bytes");
    check_number(cmd.entry_num, 0, "was not handled");
    cmd.entry_num = 1;
    cmd.entry_len = 24;
    check_errno(ioctl(iommufd, IOMMU_HWPT_INVALIDATE, &cmd), 0, "one of 24 bytes");
    check_errno(ioctl(iommufd, IOMMU_VIOMMU_ALLOC, &viommu), EOPNOTSUPP, "a guest's VT-d unit");
}

int main(int argc, char **argv)
{
    iommufd = open_iommufd();
    test_sva();
    check_errno(set_container(), 0, "with a container");
    test_sva();
    test_vtd_failures();
    if (argc > 1 && !strcmp(argv[1], "--vtd"))
        test_vtd_device();
    return checks_exit_status();
}

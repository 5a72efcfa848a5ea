// SPDX-License-Identifier: Apache-2.0

// The requests that the simulator's /dev/iommu answers and the kernel's does not
// (uapi/iommufd_sim.h): commands of its own, whose numbers have a direction and a size, and the
// container commands that were proposed in 2020.

internal import CUAPI

extension Ioctl {
  package static let ofSimulator: [Ioctl] = [
    simFaultLogAlloc, simVTdInvalidateFail, vfioIOMMUBind, vfioIOMMUCacheInvalidate,
    vfioIOMMUPASIDRequest,
  ]

  package static let simFaultLogAlloc = Ioctl(
    "IOMMUFD_SIM_FAULT_LOG_ALLOC",
    .iowr(IOMMUFD_SIM_CMD_FAULT_LOG_ALLOC, iommufd_sim_fault_log_alloc.self), .simulator,
    minimumThrough: \iommufd_sim_fault_log_alloc.out_fd)

  package static let simVTdInvalidateFail = Ioctl(
    "IOMMUFD_SIM_VTD_INVALIDATE_FAIL",
    .iowr(IOMMUFD_SIM_CMD_VTD_INVALIDATE_FAIL, iommufd_sim_vtd_invalidate_fail.self), .simulator,
    minimumThrough: \iommufd_sim_vtd_invalidate_fail.nth,
    flags: [
      "flags": [
        .init("IOMMUFD_SIM_VTD_INVALIDATE_FAIL_CLEAR", IOMMUFD_SIM_VTD_INVALIDATE_FAIL_CLEAR)
      ],
      "error": [
        .init("IOMMUFD_SIM_VTD_S1_INVALIDATE_ICE", IOMMUFD_SIM_VTD_S1_INVALIDATE_ICE),
        .init("IOMMUFD_SIM_VTD_S1_INVALIDATE_ITE", IOMMUFD_SIM_VTD_S1_INVALIDATE_ITE),
        .init("IOMMUFD_SIM_VTD_S1_INVALIDATE_IQE", IOMMUFD_SIM_VTD_S1_INVALIDATE_IQE),
      ],
    ])

  package static let vfioIOMMUBind = Ioctl(
    "VFIO_IOMMU_BIND", .vfio(23), .simulator,
    minimumThrough: \vfio_iommu_type1_bind.flags,
    flags: [
      "flags": [
        .init("VFIO_IOMMU_BIND_GUEST_PGTBL", VFIO_IOMMU_BIND_GUEST_PGTBL),
        .init("VFIO_IOMMU_UNBIND_GUEST_PGTBL", VFIO_IOMMU_UNBIND_GUEST_PGTBL),
      ]
    ])

  package static let vfioIOMMUCacheInvalidate = Ioctl(
    "VFIO_IOMMU_CACHE_INVALIDATE", .vfio(24), .simulator,
    minimumThrough: \vfio_iommu_type1_cache_invalidate.flags)

  package static let vfioIOMMUPASIDRequest = Ioctl(
    "VFIO_IOMMU_PASID_REQUEST", .vfio(22), .simulator,
    minimumThrough: \vfio_iommu_type1_pasid_request.flags,
    flags: [
      "flags": [
        .init("VFIO_IOMMU_PASID_ALLOC", VFIO_IOMMU_PASID_ALLOC),
        .init("VFIO_IOMMU_PASID_FREE", VFIO_IOMMU_PASID_FREE),
      ]
    ])
}

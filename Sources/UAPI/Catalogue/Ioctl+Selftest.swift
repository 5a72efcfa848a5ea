// SPDX-License-Identifier: Apache-2.0

internal import CUAPI

/// The selftest interface of /dev/iommu (uapi/iommufd_test.h): one request with many operations.
extension Ioctl {
  package static let ofSelftest: [Ioctl] = [test]

  package static let test = Ioctl(
    "IOMMU_TEST_CMD", .io(IOMMUFD_CMD_BASE + 32), .selftest,
    minimumThrough: \iommu_test_cmd.last)
}

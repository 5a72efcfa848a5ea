// SPDX-License-Identifier: Apache-2.0

package import IOMMU

extension PhysicalMemory.Limits {
  /// Limits that allow all tests to run at once. A process has 128 TiB of addresses. A physical
  /// memory reserves 256 GiB with these limits and 4 TiB with the default limits.
  package static var test: PhysicalMemory.Limits {
    var limits = PhysicalMemory.Limits()
    limits.addressBits = 38
    return limits
  }

  /// The same limits, and pages of files are used in place.
  package static var inPlace: PhysicalMemory.Limits {
    var limits = test
    limits.pinning = .inPlace
    return limits
  }
}

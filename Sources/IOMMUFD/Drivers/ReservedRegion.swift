// SPDX-License-Identifier: Apache-2.0

/// An IOVA range that has a special meaning for a device (struct iommu_resv_region).
package struct ReservedRegion: Hashable, Sendable {
  package enum Kind: Sendable {
    /// The range must always be mapped to the same physical addresses (IOMMU_RESV_DIRECT).
    case direct
    /// The range is mapped to the same physical addresses during boot only. A client can use it
    /// (IOMMU_RESV_DIRECT_RELAXABLE).
    case directRelaxable
    /// Requests in the range do not reach the IOMMU (IOMMU_RESV_RESERVED).
    case reserved
    /// The MSI window of the hardware (IOMMU_RESV_MSI).
    case msi
    /// An MSI window whose place software chooses (IOMMU_RESV_SW_MSI).
    case softwareMSI
  }
  package let range: ClosedRange<UInt64>
  package let kind: Kind

  package init(range: ClosedRange<UInt64>, kind: Kind) {
    self.range = range
    self.kind = kind
  }
}

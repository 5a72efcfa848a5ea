// SPDX-License-Identifier: Apache-2.0

package import IOMMU
internal import SystemPackage

/// What the AMD-Vi units of one machine share: the kernel has one set of features and one set of
/// domain IDs for all of them, so a domain can be used behind several units.
package final class AMDViPlatform: Sendable {
  /// The features that all units have (amd: amd_iommu_efr, amd_iommu_efr2, amd_iommu_iotlb_sup).
  /// What the kernel looks up in each unit (amd: amd_iommu_hd_support()) is not taken from here.
  let capabilities: AMDViCapabilities
  /// Domain IDs. The kernel uses 1 for its identity domain (amd: pdom_ids).
  let domainIDs = IDAllocator(2..<1 << 16, exhausted: .noSpace)

  package init(_ units: [AMDViCapabilities]) {
    capabilities = AMDViCapabilities(common: units)
  }
}

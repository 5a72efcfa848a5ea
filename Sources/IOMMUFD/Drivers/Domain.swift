// SPDX-License-Identifier: Apache-2.0

// A driver's domains: what a device's DMA goes through (struct iommu_domain and struct
// iommu_domain_ops). The kernel fills the page tables of a paging domain. A nested domain has the
// client's page tables, nested on a paging domain.

package import IOMMU
package import SystemPackage

/// A domain of one unit's driver. The last reference frees it.
package protocol Domain: AnyObject, Sendable {
  /// Whether the domain can be attached to a PASID at all (domain_ops.set_dev_pasid). Without the
  /// operation iommufd refuses every PASID. The default is `true`.
  var hasPASIDAttach: Bool { get }
}

extension Domain {
  package var hasPASIDAttach: Bool { true }
}

/// A domain with page tables that the kernel fills (IOMMU_DOMAIN_UNMANAGED).
package protocol PagingDomain: Domain {
  /// The first and the last IOVA that can be mapped (iommu_domain_geometry).
  var aperture: ClosedRange<UInt64> { get }

  /// The supported page sizes: a set bit n means pages of 2^n bytes (pgsize_bitmap).
  var pageSizes: UInt64 { get }

  /// Forces no-snoop accesses to be coherent, if every attached device can.
  /// - Returns: Whether they are forced.
  func enforceCacheCoherency() -> Bool

  /// Returns whether ``map(_:to:length:permissions:)`` maps pages with these permissions. By
  /// default it maps pages with any permission.
  func accepts(_ permissions: Permissions) -> Bool

  /// Maps `length` bytes with the largest pages that fit. Addresses and length are multiples of the
  /// smallest page size, and nothing in the range is mapped yet. On an error nothing in the range
  /// stays mapped.
  /// - Throws: `.noMemory`.
  func map(
    _ iova: IOVA, to physical: PhysicalAddress, length: UInt64, permissions: Permissions
  ) throws(Errno)

  /// Removes every mapping in the range and invalidates every cached copy. When the range begins or
  /// ends inside a large page, the whole page is removed, as iommu_unmap() does.
  /// - Returns: The bytes that have been unmapped from `iova` to the first hole.
  @discardableResult
  func unmap(_ iova: IOVA, length: UInt64) -> UInt64

  /// Returns the physical address that `iova` is mapped to (iommu_iova_to_phys()).
  func physicalAddress(of iova: IOVA) -> PhysicalAddress?

  /// The dirty tracking of the domain (iommu_domain.dirty_ops). `nil`, the default, for a domain
  /// that has not been made for dirty tracking.
  var dirtyTracking: (any DirtyTracking)? { get }
}

extension PagingDomain {
  /// No page-table format has an entry without any permission (generic_pt: map_range()).
  package func accepts(_ permissions: Permissions) -> Bool { !permissions.isEmpty }

  package var dirtyTracking: (any DirtyTracking)? { nil }
}

/// A paging domain that reports which pages devices have written (struct iommu_dirty_ops).
package protocol DirtyTracking: AnyObject, Sendable {
  /// Starts or stops the recording of writes. Recorded writes stay recorded.
  func setDirtyTracking(_ isEnabled: Bool) throws(Errno)

  /// Reports the IOVA and the length of every page in the range that has been written. A large page
  /// is reported as a whole, so it can begin before the range and end behind it.
  /// - Parameter clearing: Whether the reported pages become clean.
  func readDirty(
    _ range: ClosedRange<IOVA>, clearing: Bool, _ report: (IOVA, UInt64) -> Void
  ) throws(Errno)
}

/// A domain with the client's page table as its first stage (IOMMU_DOMAIN_NESTED).
package protocol NestedDomain: Domain {
  /// Invalidates cached copies of the client's page table (domain_ops.cache_invalidate_user). The
  /// default throws EOPNOTSUPP.
  /// - Parameter handled: The number of entries that took effect, also when the next entry is an
  ///   error.
  func invalidate(_ entries: UserDataArray, handled: inout Int) throws(Errno)
}

extension NestedDomain {
  package func invalidate(_ entries: UserDataArray, handled: inout Int) throws(Errno) {
    throw .notSupported
  }
}

/// Flags of a paging domain, with the values of IOMMU_HWPT_ALLOC.
package struct PagingDomainFlags: OptionSet, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
  package static let nestParent = PagingDomainFlags(rawValue: 1 << 0)
  package static let dirtyTracking = PagingDomainFlags(rawValue: 1 << 1)
  package static let pasid = PagingDomainFlags(rawValue: 1 << 3)
}

/// Flags of a nested domain, with the values of IOMMU_HWPT_ALLOC.
package struct NestedDomainFlags: OptionSet, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
  package static let pasid = NestedDomainFlags(rawValue: 1 << 3)
}

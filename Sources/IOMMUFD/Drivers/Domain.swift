// What a device's DMA goes through, as its driver keeps it (struct iommu_domain and struct
// iommu_domain_ops): a *paging* domain has tables that the kernel fills, a *nested* domain has the
// client's own tables in front of a paging domain.

package import IOMMU
package import SystemPackage

/// A domain of one unit's driver. It goes when nobody refers to it any more.
package protocol Domain: AnyObject, Sendable {
}

/// An IOVA space whose tables the kernel manages (IOMMU_DOMAIN_UNMANAGED).
package protocol PagingDomain: Domain {
  /// First and last IOVA that can be mapped (iommu_domain_geometry).
  var aperture: ClosedRange<UInt64> { get }

  /// Bit n set: pages of 2^n bytes can be mapped (pgsize_bitmap).
  var pageSizes: UInt64 { get }

  /// Whether every device attached so far has its no-snoop accesses forced coherent.
  func enforceCacheCoherency() -> Bool

  /// Maps `length` bytes, multiples of the smallest page size, with the largest pages that fit.
  /// Nothing in the range is mapped before. On an error nothing of the range is.
  /// - Throws: `.noMemory`.
  func map(
    _ iova: IOVA, to physical: PhysicalAddress, length: UInt64, permissions: Permissions
  ) throws(Errno)

  /// Removes every mapping in the range and every cached copy of it. A range that begins or ends
  /// inside a large page removes that whole page, as iommu_unmap() does.
  /// - Returns: the bytes that were unmapped, counted from `iova` to the first hole.
  @discardableResult
  func unmap(_ iova: IOVA, length: UInt64) -> UInt64

  /// The address `iova` is mapped to (iommu_iova_to_phys()).
  func physicalAddress(of iova: IOVA) -> PhysicalAddress?

  /// How to learn which pages were written (iommu_domain.dirty_ops); nil, the default, for a domain
  /// that was not made for it.
  var dirtyTracking: (any DirtyTracking)? { get }
}

extension PagingDomain {
  package var dirtyTracking: (any DirtyTracking)? { nil }
}

/// A paging domain that can tell which pages devices have written to (struct iommu_dirty_ops).
package protocol DirtyTracking: AnyObject, Sendable {
  /// Starts or stops the recording of writes; what is recorded stays.
  func setDirtyTracking(_ isEnabled: Bool) throws(Errno)

  /// Reports every page-table entry in the range that was written through, whole, with its first IOVA
  /// and length: it may begin before the range and end behind it.
  /// - Parameter clearing: the entries are then as if never written through.
  func readDirty(
    _ range: ClosedRange<UInt64>, clearing: Bool, _ report: (IOVA, UInt64) -> Void
  ) throws(Errno)
}

/// A domain whose first stage is a client's (IOMMU_DOMAIN_NESTED).
package protocol NestedDomain: Domain {
  /// Drops cached copies of the client's tables (domain_ops.cache_invalidate_user). The default:
  /// EOPNOTSUPP.
  /// - Parameter handled: how many entries took effect, also when the next one is an error.
  func invalidate(_ entries: UserDataArray, handled: inout Int) throws(Errno)
}

extension NestedDomain {
  package func invalidate(_ entries: UserDataArray, handled: inout Int) throws(Errno) {
    throw .notSupported
  }
}

/// Flags of a paging domain, in the values of IOMMU_HWPT_ALLOC.
package struct PagingDomainFlags: OptionSet, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
  package static let nestParent = PagingDomainFlags(rawValue: 1 << 0)
  package static let dirtyTracking = PagingDomainFlags(rawValue: 1 << 1)
  package static let pasid = PagingDomainFlags(rawValue: 1 << 3)
}

/// Flags of a nested domain, in the same values.
package struct NestedDomainFlags: OptionSet, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
  package static let pasid = NestedDomainFlags(rawValue: 1 << 3)
}

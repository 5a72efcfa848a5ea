// What the kernel's `struct iommu_ops` and `struct iommu_domain_ops` are to iommufd: the vendor's
// driver, which owns the tables of one IOMMU unit and programs the unit. The hardware itself is in
// the IOMMU module and knows nothing of these words.
//
// Locking: the object model calls a driver with its own locks held; a driver never calls back.
// Attach, detach and unmap return only when no translation can still use what they took away.

package import IOMMU
package import SystemPackage

/// One vendor's driver for one IOMMU unit.
package protocol IOMMUDriver: AnyObject, Sendable {
  /// IOVA ranges of `device` that no client may use (iommu_get_resv_regions()).
  func reservedRegions(of device: RequesterID) -> [ReservedRegion]

  /// IOMMU_CAP_ENFORCE_CACHE_COHERENCY.
  func enforcesCacheCoherency(for device: RequesterID) -> Bool

  /// A kernel-managed domain that `device` can be attached to.
  /// - Throws: `.notSupported` (EOPNOTSUPP) for flags the unit cannot do, `.noMemory`.
  func makePagingDomain(
    _ flags: PagingDomainFlags, for device: RequesterID
  ) throws(Errno) -> any PagingDomain

  /// Makes DMA of `device` (with `pasid` when given) go through `domain`, whatever it went through
  /// before (iommu_attach_device(), iommu_replace_…). On an error nothing has changed.
  /// - Throws: `.invalidArgument` when the domain is not compatible with the unit or device.
  func attach(
    _ domain: any PagingDomain, to device: RequesterID, pasid: PASID?
  ) throws(Errno)

  /// Sets who is told of failed DMA of the unit's devices; replaces the one before. The sink is called
  /// by the thread of the DMA and takes no lock of the control plane.
  func setFaultSink(_ sink: FaultSink?)

  /// Blocks all DMA of `device` (with `pasid` when given). Cannot fail.
  func block(_ device: RequesterID, pasid: PASID?)
}

/// An IOVA space whose tables the kernel manages (struct iommu_domain, IOMMU_DOMAIN_UNMANAGED).
package protocol PagingDomain: AnyObject, Sendable {
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
}

/// Flags of a paging domain, in the values of IOMMU_HWPT_ALLOC.
package struct PagingDomainFlags: OptionSet, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
  package static let nestParent = PagingDomainFlags(rawValue: 1 << 0)
  package static let dirtyTracking = PagingDomainFlags(rawValue: 1 << 1)
  package static let pasid = PagingDomainFlags(rawValue: 1 << 3)
}

/// An IOVA range with a meaning of its own on the device's bus.
package struct ReservedRegion: Hashable, Sendable {
  package enum Kind: Sendable {
    /// Must be identity mapped, always (IOMMU_RESV_DIRECT).
    case direct
    /// Identity mapped for the boot only; may be dropped (IOMMU_RESV_DIRECT_RELAXABLE).
    case directRelaxable
    /// Never reaches the IOMMU (IOMMU_RESV_RESERVED).
    case reserved
    /// The hardware's MSI window (IOMMU_RESV_MSI).
    case msi
    /// A window the software may choose (IOMMU_RESV_SW_MSI).
    case softwareMSI
  }
  package let range: ClosedRange<UInt64>
  package let kind: Kind

  package init(range: ClosedRange<UInt64>, kind: Kind) {
    self.range = range
    self.kind = kind
  }
}

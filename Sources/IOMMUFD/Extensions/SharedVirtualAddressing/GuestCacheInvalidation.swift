// SPDX-License-Identifier: Apache-2.0

// An invalidation that a guest issued for tables that are bound to its PASIDs (struct
// iommu_cache_invalidate_info). The unit tags translations with the domain ID of the table and the
// PASID. So an invalidation of every granularity becomes one invalidation per bound table.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

struct GuestCacheInvalidation {
  struct Caches: OptionSet {
    let rawValue: Int32
    static let iotlb = Caches(rawValue: IOMMU_CACHE_INV_TYPE_IOTLB)
    static let deviceTLB = Caches(rawValue: IOMMU_CACHE_INV_TYPE_DEV_IOTLB)
    static let pasid = Caches(rawValue: IOMMU_CACHE_INV_TYPE_PASID)
    static let all: Caches = [.iotlb, .deviceTLB, .pasid]
  }

  /// Bytes through `padding`; the arguments of the granularity follow.
  static let headerSize = MemoryLayout<iommu_cache_invalidate_info>.end(of: \.padding)

  let caches: Caches
  /// `nil` for every PASID that has a bound table.
  let pasid: PASID?
  let range: VTdFlushRange
  let isLeaf: Bool

  /// iommu: iommu_check_cache_invl_data(), intel: intel_iommu_sva_invalidate()
  init(_ info: iommu_cache_invalidate_info) throws(Errno) {
    caches = Caches(rawValue: Int32(info.cache))
    guard info.version == UInt32(IOMMU_CACHE_INVALIDATE_INFO_VERSION_1),
      caches.isSubset(of: .all),
      withUnsafeBytes(of: info.padding, { bytes in bytes.allSatisfy { $0 == 0 } })
    else { throw .invalidArgument }
    switch UInt32(info.granularity) {
    case IOMMU_INV_GRANU_DOMAIN.rawValue:
      guard !caches.contains(.deviceTLB) else { throw .invalidArgument }
      (pasid, range, isLeaf) = (nil, .everything, false)
    case IOMMU_INV_GRANU_PASID.rawValue:
      let known = UInt32(IOMMU_INV_PASID_FLAGS_PASID | IOMMU_INV_PASID_FLAGS_ARCHID)
      let arguments = info.granu.pasid_info
      // VT-d names an address space by its PASID only: an ARCHID alone is EINVAL.
      guard Self.reaches(info, arguments), arguments.flags & ~known == 0,
        arguments.flags & UInt32(IOMMU_INV_PASID_FLAGS_PASID) != 0
      else { throw .invalidArgument }
      (pasid, range, isLeaf) = (try Self.pasid(arguments.pasid), .everything, false)
    case IOMMU_INV_GRANU_ADDR.rawValue:
      let (hasPASID, leaf) = (
        UInt32(IOMMU_INV_ADDR_FLAGS_PASID), UInt32(IOMMU_INV_ADDR_FLAGS_LEAF)
      )
      let known = hasPASID | leaf | UInt32(IOMMU_INV_ADDR_FLAGS_ARCHID)
      let arguments = info.granu.addr_info
      guard !caches.contains(.pasid), Self.reaches(info, arguments),
        arguments.flags & ~known == 0
      else { throw .invalidArgument }
      pasid = arguments.flags & hasPASID != 0 ? try Self.pasid(arguments.pasid) : nil
      range = Self.range(arguments)
      isLeaf = arguments.flags & leaf != 0
    default:
      throw .invalidArgument
    }
  }

  private static func reaches<Arguments>(
    _ info: iommu_cache_invalidate_info, _: Arguments
  ) -> Bool {
    Int(info.argsz) >= headerSize + MemoryLayout<Arguments>.size
  }

  private static func pasid(_ number: UInt64) throws(Errno) -> PASID {
    guard let pasid = UInt32(exactly: number), PASIDSpace.range.contains(pasid) else {
      throw .invalidArgument
    }
    return PASID(rawValue: pasid)
  }

  /// At least one page. A length or an end that does not fit into 64 bits means everything.
  /// intel: to_vtd_size()
  private static func range(_ arguments: iommu_inv_addr_info) -> VTdFlushRange {
    let (length, isTooLong) = arguments.granule_size.multipliedReportingOverflow(
      by: arguments.nb_granules)
    let (last, wraps) = arguments.addr.addingReportingOverflow(max(length, 4096) - 1)
    return isTooLong || wraps
      ? .everything : VTdFlushRange(IOVA(arguments.addr), through: IOVA(last))
  }
}

extension VTdNestedDomain {
  func invalidate(_ invalidation: GuestCacheInvalidation) {
    let tags = usage.tags
    let units = tags.filter { $0.cache == .iotlb }
    if invalidation.caches.contains(.pasid) {
      for tag in units { tag.driver.unit.invalidatePASIDCache(.pasid(tag.id, tag.pasid)) }
    }
    if !invalidation.caches.isDisjoint(with: [.iotlb, .deviceTLB]) {
      // An IOTLB invalidation flushes device TLBs too: a guest may rely on one including the other.
      let concerned =
        invalidation.caches.contains(.iotlb) ? tags : tags.filter { $0.cache != .iotlb }
      concerned.flush(invalidation.range, usesFirstStage: true, isLeaf: invalidation.isLeaf)
    }
  }
}

// What a guest says has changed in tables that are bound to its PASIDs (struct
// iommu_cache_invalidate_info): which caches forget what. The unit names translations by the domain of
// the table and the PASID, so every granularity becomes the same invalidation of one bound table after
// the other.

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

  /// The part that every granularity has.
  static let headerSize = MemoryLayout<iommu_cache_invalidate_info>.end(of: \.padding)

  let caches: Caches
  /// Nil: every PASID with a table of the container.
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
      // VT-d has no other name for an address space than the PASID.
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

  /// At least a page; what does not fit into 64 bits is everything. intel: to_vtd_size()
  private static func range(_ arguments: iommu_inv_addr_info) -> VTdFlushRange {
    let (length, isTooLong) = arguments.granule_size.multipliedReportingOverflow(
      by: arguments.nb_granules)
    let (last, wraps) = arguments.addr.addingReportingOverflow(max(length, 4096) - 1)
    return isTooLong || wraps ? .everything : VTdFlushRange(arguments.addr, through: last)
  }
}

extension Context {
  /// - Throws: `.invalidArgument` when no table is bound to the PASID that is named.
  func invalidate(_ invalidation: GuestCacheInvalidation) throws(Errno) {
    lock.assertHeld()
    var tables: [ObjectID: VTdNestedDomain] = [:]
    for device in objects.all(BoundDevice.self) {
      for (pasid, hwpt) in device.guestTables
      where invalidation.pasid == nil || invalidation.pasid == pasid {
        tables[hwpt.id] = hwpt.domain as? VTdNestedDomain
      }
    }
    guard invalidation.pasid == nil || !tables.isEmpty else { throw .invalidArgument }
    for table in tables.values { table.invalidate(invalidation) }
  }
}

extension VTdNestedDomain {
  func invalidate(_ invalidation: GuestCacheInvalidation) {
    let tags = links.tags
    let units = tags.filter { $0.cache == .iotlb }
    if invalidation.caches.contains(.pasid) {
      for tag in units { tag.driver.unit.invalidatePASIDCache(.pasid(tag.id, tag.pasid)) }
    }
    if !invalidation.caches.isDisjoint(with: [.iotlb, .deviceTLB]) {
      // A guest may believe that the first includes the second.
      let concerned =
        invalidation.caches.contains(.iotlb) ? tags : tags.filter { $0.cache != .iotlb }
      concerned.flush(invalidation.range, usesFirstStage: true, isLeaf: invalidation.isLeaf)
    }
  }
}

// A paging domain of the intel driver: one page table that the driver fills. It is a first-stage table
// (as processors have) where the unit has these, for want of a reason against it; a second-stage table
// where one is needed: as parent of nested domains, to track dirty pages, or on an older unit.

package import IOMMU
internal import Synchronization
package import SystemPackage

package final class VTdPagingDomain: PagingDomain, VTdDomain {
  enum Stage { case first, second }

  package let aperture: ClosedRange<UInt64>
  package let pageSizes: UInt64
  let stage: Stage
  /// Nested domains can stand on it.
  let isNestParent: Bool
  private let canTrackDirty: Bool
  /// Read-only mappings are refused. generic_pt: PT_FEAT_VTDSS_FORCE_WRITEABLE
  private let needsWritable: Bool
  private let table: PagingTable
  let links = VTdDomainLinks()
  private let state = Mutex(State())

  private struct State {
    /// No-snoop accesses are forced coherent: by leaves made from now on (SNP), or by the PASID table
    /// entry (PGSNP).
    var forcesSnooping = false
    var isTrackingDirty = false
  }

  /// - Throws: `.notSupported` for flags that the unit cannot do.
  init(
    _ flags: PagingDomainFlags, for unit: VTdUnit, memory: PhysicalMemory
  ) throws(Errno) {
    let capabilities = unit.capabilities
    guard flags.isSubset(of: [.nestParent, .dirtyTracking, .pasid]) else { throw .notSupported }
    var sizes: UInt64 = 1 << 12
    if capabilities.firstStage, flags.isSubset(of: .pasid) {
      // intel: intel_iommu_domain_alloc_first_stage()
      stage = .first
      let (levels, width) = Self.firstStageShape(capabilities)
      sizes |= 1 << 21 | (capabilities.firstStage1GPages ? 1 << 30 : 0)
      // Only the lower half: the upper one's addresses are sign-extended.
      aperture = 0...(1 << UInt64(width - 1) - 1)
      table = try PagingTable(vtdFirstStageLevels: levels, pageSizes: sizes, memory: memory)
    } else {
      // intel: intel_iommu_domain_alloc_second_stage()
      guard capabilities.secondStage, !flags.contains(.nestParent) || capabilities.nested,
        !flags.contains(.dirtyTracking) || capabilities.secondStageFlags
      else { throw .notSupported }
      stage = .second
      let (levels, width) = try Self.secondStageShape(capabilities)
      if capabilities.has2MPages { sizes |= 1 << 21 }
      if capabilities.has1GPages { sizes |= 1 << 30 }
      aperture = 0...(1 << UInt64(width) - 1)
      table = try PagingTable(vtdSecondStageLevels: levels, pageSizes: sizes, memory: memory)
    }
    pageSizes = sizes
    isNestParent = flags.contains(.nestParent)
    canTrackDirty = flags.contains(.dirtyTracking)
    needsWritable = isNestParent && unit.hasReadOnlyErratum
  }

  deinit { table.destroy() }

  /// The top table, as PASID table entries name it.
  package var root: PhysicalAddress { table.root }

  /// intel: compute_vasz_lg2_fs()
  private static func firstStageShape(_ capabilities: VTdCapabilities) -> (levels: Int, width: Int)
  {
    let width = capabilities.maximumGuestAddressWidth
    if width > 48, capabilities.fiveLevelFirstStage { return (5, min(57, width)) }
    return (4, min(48, width))
  }

  /// Levels and address width of a table: the widest that MGAW and SAGAW allow.
  /// intel: compute_vasz_lg2_ss()
  private static func secondStageShape(
    _ capabilities: VTdCapabilities
  ) throws(Errno) -> (levels: Int, width: Int) {
    let width = capabilities.maximumGuestAddressWidth
    let supported = capabilities.secondStageLevels
    // Where the unit walks more levels than its addresses need, the kernel takes one level more.
    if width > 48, supported.contains(5) { return (5, min(57, width)) }
    if width > 39, supported.contains(where: { $0 >= 4 }) {
      return (supported.contains(5) ? 5 : 4, min(48, width))
    }
    if width > 30, supported.contains(where: { $0 >= 3 }) {
      return (supported.contains(4) ? 4 : supported.contains(5) ? 5 : 3, min(39, width))
    }
    throw .notSupported
  }

  // MARK: VTdDomain

  var parent: VTdPagingDomain? { nil }
  var usesFirstStage: Bool { stage == .first }
  var forcesSnooping: Bool { state.withLock { $0.forcesSnooping } }

  func requireCompatibility(with capabilities: VTdCapabilities) throws(Errno) {
    let isCompatible =
      stage == .first
      ? isFirstStageCompatible(with: capabilities) : isSecondStageCompatible(with: capabilities)
    guard isCompatible else { throw .invalidArgument }
  }

  func requireValidEntry(for capabilities: VTdCapabilities) throws(Errno) {}

  /// intel: paging_domain_compatible_first_stage()
  private func isFirstStageCompatible(with capabilities: VTdCapabilities) -> Bool {
    capabilities.firstStage && (capabilities.fiveLevelFirstStage || table.topLevel < 4)
      && (capabilities.firstStage1GPages || pageSizes & 1 << 30 == 0)
  }

  /// intel: paging_domain_compatible_second_stage()
  private func isSecondStageCompatible(with capabilities: VTdCapabilities) -> Bool {
    capabilities.secondStage && (!canTrackDirty || capabilities.secondStageFlags)
      && (!isNestParent || capabilities.nested)
      && aperture.upperBound >> UInt64(capabilities.maximumGuestAddressWidth) == 0
      && capabilities.secondStageLevels.contains(table.topLevel + 1)
      && (capabilities.has2MPages || pageSizes & 1 << 21 == 0)
      && (capabilities.has1GPages || pageSizes & 1 << 30 == 0)
      && (!forcesSnooping || capabilities.snoopControl)
  }

  /// intel: pasid_pte_config_first_level(), pasid_pte_config_second_level()
  func makeEntry(id: DomainID) -> PASIDTableEntry {
    let state = state.withLock { $0 }
    var entry = PASIDTableEntry()
    entry.domain = id
    entry.snoopsWalks = true
    switch stage {
    case .first:
      entry.type = .firstStage
      entry.firstStage = table.root
      entry.firstStageLevels = table.topLevel + 1
      entry.snoopsPages = state.forcesSnooping
    case .second:
      entry.type = .secondStage
      entry.secondStage = table.root
      entry.levels = table.topLevel + 1
      entry.updatesSecondStageFlags = state.isTrackingDirty
    }
    entry.isPresent = true
    return entry
  }

  // MARK: PagingDomain

  /// intel: intel_iommu_enforce_cache_coherency_fs(), …_ss()
  package func enforceCacheCoherency() -> Bool {
    let uses = links.uses
    guard uses.allSatisfy({ $0.driver.unit.capabilities.snoopControl }) else { return false }
    let wasForced = state.withLock { state in
      defer { state.forcesSnooping = true }
      return state.forcesSnooping
    }
    if stage == .first && !wasForced {
      for use in uses where use.pasid == VTdDevice.ridPASID {
        use.driver.changeEntry(of: use) { $0.snoopsPages = true }
      }
    }
    return true
  }

  package func map(
    _ iova: IOVA, to physical: PhysicalAddress, length: UInt64, permissions: Permissions
  ) throws(Errno) {
    guard !needsWritable || permissions.contains(.write) else { throw .invalidArgument }
    let last = try requireMappable(iova, to: physical, length: length, permissions)
    let result = state.withLock { state in
      table.map(
        iova, to: physical, length: length, permissions: permissions,
        snoops: state.forcesSnooping && stage == .second)
    }
    if let error = result.error {
      free(result.retired) { flush(.everything) }
      try undo(result.mapped, at: iova, after: error)
    }
    let range = VTdFlushRange(iova.rawValue, through: last)
    flushNew(range)
    free(result.retired) { flush(range) }
  }

  @discardableResult
  package func unmap(_ iova: IOVA, length: UInt64) -> UInt64 {
    let length = iova.rawValue.clipped(length, through: aperture.upperBound)
    let result = state.withLock { _ in table.unmap(iova, length: length) }
    if result.length > 0 || !result.retired.isEmpty {
      let last = iova.rawValue + max(result.length, 1) - 1
      // intel: intel_iommu_tlb_sync()
      flush(VTdFlushRange(iova.rawValue, through: last), isLeaf: result.retired.isEmpty)
      table.free(result.retired)
    }
    return result.length
  }

  package func physicalAddress(of iova: IOVA) -> PhysicalAddress? {
    guard aperture.contains(iova.rawValue) else { return nil }
    return state.withLock { _ in table.physicalAddress(of: iova) }
  }

  // MARK: Caches

  private func flush(_ range: VTdFlushRange, isLeaf: Bool = false) {
    links.tags.flush(range, usesFirstStage: usesFirstStage, isLeaf: isLeaf)
  }

  /// A unit that caches absent entries is told of new ones; absent first-stage entries are never
  /// cached. intel: cache_tag_flush_range_np()
  private func flushNew(_ range: VTdFlushRange) {
    if stage == .first { return }
    let tags = links.tags
    guard tags.contains(where: { $0.driver.unit.capabilities.cachingMode }) else { return }
    let concerned = tags.filter {
      $0.cache == .iotlb && $0.driver.unit.capabilities.cachingMode
    }
    concerned.flush(range, usesFirstStage: false, isLeaf: false)
  }

  /// Frees tables after an invalidation, if there are any.
  private func free(_ retired: RetiredTables, after invalidate: () -> Void) {
    guard !retired.isEmpty else { return }
    invalidate()
    table.free(retired)
  }
}

// MARK: Dirty tracking

extension VTdPagingDomain: DirtyTracking {
  package var dirtyTracking: (any DirtyTracking)? { canTrackDirty ? self : nil }

  /// The entries of nested domains are among the uses of their parent.
  /// intel: intel_iommu_set_dirty_tracking(), intel_pasid_setup_dirty_tracking()
  package func setDirtyTracking(_ isEnabled: Bool) throws(Errno) {
    let wasEnabled = state.withLock { state in
      defer { state.isTrackingDirty = isEnabled }
      return state.isTrackingDirty
    }
    guard isEnabled != wasEnabled else { return }
    for use in links.uses {
      use.driver.changeEntry(of: use) { $0.updatesSecondStageFlags = isEnabled }
    }
  }

  /// intel: IOMMU_PT_DIRTY_OPS(vtdss)
  package func readDirty(
    _ range: ClosedRange<UInt64>, clearing: Bool, _ report: (IOVA, UInt64) -> Void
  ) throws(Errno) {
    guard aperture.contains(range.upperBound) else { throw .outOfRange }
    var found: ClosedRange<UInt64>?
    state.withLock { _ in
      table.readDirty(range, clearing: clearing) { iova, length in
        let first = found?.lowerBound ?? iova.rawValue
        found = first...(iova.rawValue + (length - 1))
        report(iova, length)
      }
    }
    // A cached translation would let the next write pass without the flag.
    if clearing, let found {
      flush(VTdFlushRange(found.lowerBound, through: found.upperBound), isLeaf: true)
    }
  }
}

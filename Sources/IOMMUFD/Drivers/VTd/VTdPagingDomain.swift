// SPDX-License-Identifier: Apache-2.0

// A paging domain of the intel driver: one page table that the driver fills. The driver prefers a
// first-stage page table, which has the format of the processor's page tables. It takes a
// second-stage page table for a nesting parent, for dirty tracking, and on a unit without
// first-stage page tables.

package import IOMMU
internal import Synchronization
package import SystemPackage

package final class VTdPagingDomain: PagingDomain, VTdDomain {
  enum Stage { case first, second }

  package let aperture: ClosedRange<UInt64>
  package let pageSizes: UInt64
  let stage: Stage
  /// Whether the domain can be the parent of nested domains.
  let isNestParent: Bool
  private let tracksDirty: Bool
  /// Whether read-only mappings are refused (generic_pt: PT_FEAT_VTDSS_FORCE_WRITEABLE).
  private let needsWritable: Bool
  /// Whether new second-stage mappings are invalidated, because the unit for which the domain has
  /// been made caches not-present entries (dmar_domain.iotlb_sync_map).
  private let flushesNewMappings: Bool
  private let table: PagingTable
  let usage = VTdDomainUsage()
  private let state = Mutex(State())

  private struct State {
    /// Whether no-snoop accesses are forced to be coherent: by the SNP bit of new second-stage leaf
    /// entries, or by the PGSNP bit of the PASID table entry.
    var forcesSnooping = false
    var isTrackingDirty = false
  }

  /// - Throws: `.notSupported` for flags that the unit does not support, `.noMemory`.
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
      // Only the lower half of the addresses, because the upper half is sign-extended.
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
    tracksDirty = flags.contains(.dirtyTracking)
    needsWritable = isNestParent && unit.hasReadOnlyErratum
    flushesNewMappings = capabilities.cachingMode
  }

  deinit { table.destroy() }

  /// The address of the top-level table, which PASID table entries point to.
  package var root: PhysicalAddress { table.root }

  /// intel: compute_vasz_lg2_fs()
  private static func firstStageShape(_ capabilities: VTdCapabilities) -> (levels: Int, width: Int)
  {
    let width = capabilities.maximumGuestAddressWidth
    if width > 48, capabilities.fiveLevelFirstStage { return (5, min(57, width)) }
    return (4, min(48, width))
  }

  /// Returns the levels and the address width of the widest second-stage table that MGAW and SAGAW
  /// allow (intel: compute_vasz_lg2_ss()).
  private static func secondStageShape(
    _ capabilities: VTdCapabilities
  ) throws(Errno) -> (levels: Int, width: Int) {
    let width = capabilities.maximumGuestAddressWidth
    let supported = capabilities.secondStageLevels
    // The kernel takes one level more than the address width needs if the unit supports that level.
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
    capabilities.secondStage && (!tracksDirty || capabilities.secondStageFlags)
      && (!isNestParent || capabilities.nested)
      && aperture.upperBound >> UInt64(capabilities.maximumGuestAddressWidth) == 0
      && capabilities.secondStageLevels.contains(table.topLevel + 1)
      && (capabilities.has2MPages || pageSizes & 1 << 21 == 0)
      && (capabilities.has1GPages || pageSizes & 1 << 30 == 0)
      && (flushesNewMappings || !capabilities.cachingMode)
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
    let uses = usage.uses
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

  package func accepts(_ permissions: Permissions) -> Bool {
    !permissions.isEmpty && (!needsWritable || permissions.contains(.write))
  }

  package func map(
    _ iova: IOVA, to physical: PhysicalAddress, length: UInt64, permissions: Permissions
  ) throws(Errno) {
    guard accepts(permissions) else { throw .invalidArgument }
    let last = try requireMappable(iova, to: physical, length: length, permissions)
    let result = state.withLock { state in
      table.map(
        iova, to: physical, length: length, permissions: permissions,
        snoops: state.forcesSnooping && stage == .second)
    }
    if let error = result.error {
      free(result.retired) { flush(.everything) }
      try undoMapping(result.mapped, at: iova, after: error)
    }
    let range = VTdFlushRange(iova, through: last)
    flushNew(range)
    free(result.retired) { flush(range) }
  }

  @discardableResult
  package func unmap(_ iova: IOVA, length: UInt64) -> UInt64 {
    let length = iova.clipped(length, through: aperture.upperBound)
    let result = state.withLock { _ in table.unmap(iova, length: length) }
    if result.length > 0 || !result.retired.isEmpty {
      // intel: intel_iommu_tlb_sync()
      let last = iova.last(of: max(result.length, 1))
      flush(VTdFlushRange(iova, through: last), isLeaf: result.retired.isEmpty)
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
    usage.tags.flush(range, usesFirstStage: usesFirstStage, isLeaf: isLeaf)
  }

  /// Invalidates cached not-present entries of new second-stage mappings in units with caching
  /// mode. Units never cache not-present first-stage entries (intel: cache_tag_flush_range_np()).
  private func flushNew(_ range: VTdFlushRange) {
    guard stage == .second, flushesNewMappings else { return }
    let tags = usage.tags
    guard tags.contains(where: { $0.driver.unit.capabilities.cachingMode }) else { return }
    let cachingTags = tags.filter {
      $0.cache == .iotlb && $0.driver.unit.capabilities.cachingMode
    }
    cachingTags.flush(range, usesFirstStage: false, isLeaf: false)
  }

  /// Frees page tables that are no longer linked, after `invalidate` has removed them from the
  /// caches.
  private func free(_ retired: RetiredTables, after invalidate: () -> Void) {
    guard !retired.isEmpty else { return }
    invalidate()
    table.free(retired)
  }
}

// MARK: Dirty tracking

extension VTdPagingDomain: DirtyTracking {
  package var dirtyTracking: (any DirtyTracking)? { tracksDirty ? self : nil }

  /// Changes every PASID table entry that uses the domain. The uses of a parent include the entries
  /// of its nested domains (intel: intel_iommu_set_dirty_tracking(),
  /// intel_pasid_setup_dirty_tracking()).
  package func setDirtyTracking(_ isEnabled: Bool) throws(Errno) {
    let wasEnabled = state.withLock { state in
      defer { state.isTrackingDirty = isEnabled }
      return state.isTrackingDirty
    }
    guard isEnabled != wasEnabled else { return }
    for use in usage.uses {
      use.driver.changeEntry(of: use) { $0.updatesSecondStageFlags = isEnabled }
    }
  }

  /// intel: IOMMU_PT_DIRTY_OPS(vtdss)
  package func readDirty(
    _ range: ClosedRange<IOVA>, clearing: Bool, _ report: (IOVA, UInt64) -> Void
  ) throws(Errno) {
    guard aperture.contains(range.upperBound.rawValue) else { throw .outOfRange }
    var found: ClosedRange<IOVA>?
    state.withLock { _ in
      table.readDirty(range, clearing: clearing) { iova, length in
        found = (found?.lowerBound ?? iova)...iova.last(of: length)
        report(iova, length)
      }
    }
    // With a translation in the IOTLB the next write would not set the dirty bit again.
    if clearing, let found {
      flush(VTdFlushRange(found.lowerBound, through: found.upperBound), isLeaf: true)
    }
  }
}

// A second-stage paging domain of the intel driver (struct dmar_domain): one page table, and the
// units it is attached to, each with its own domain id.

package import IOMMU
internal import Synchronization
package import SystemPackage

package final class VTdPagingDomain: PagingDomain {
  package let aperture: ClosedRange<UInt64>
  package let pageSizes: UInt64
  private let tracksDirty: Bool
  private let table: PagingTable
  private let state = Mutex(State())

  private struct State {
    var attachments: [Attachment] = []
    /// Leaves made from now on have SNP set.
    var forcesSnooping = false
  }

  /// The unit of one driver, with the number of device attachments that need it.
  private struct Attachment {
    let driver: VTdDriver
    let id: DomainID
    var users: Int
  }

  /// - Throws: `.notSupported` when the unit has no second-stage table the kernel would use.
  init(
    tracksDirty: Bool, for capabilities: VTdCapabilities, memory: PhysicalMemory
  ) throws(Errno) {
    let (levels, width) = try Self.shape(capabilities)
    var sizes: UInt64 = 1 << 12
    if capabilities.has2MPages { sizes |= 1 << 21 }
    if capabilities.has1GPages { sizes |= 1 << 30 }
    self.tracksDirty = tracksDirty
    aperture = 0...(1 << UInt64(width) - 1)
    pageSizes = sizes
    table = try PagingTable(vtdSecondStageLevels: levels, pageSizes: sizes, memory: memory)
  }

  deinit { table.destroy() }

  /// The top table, as PASID table entries name it.
  package var root: PhysicalAddress { table.root }

  /// Levels and address width of a table: the widest that MGAW and SAGAW allow.
  /// intel: compute_vasz_lg2_ss()
  private static func shape(
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

  // MARK: Attaching

  /// intel: paging_domain_compatible_second_stage()
  func requireCompatibility(with capabilities: VTdCapabilities) throws(Errno) {
    let forcesSnooping = state.withLock { $0.forcesSnooping }
    let isWideEnough = aperture.upperBound >> UInt64(capabilities.maximumGuestAddressWidth) == 0
    guard !tracksDirty || capabilities.secondStageFlags, isWideEnough,
      capabilities.secondStageLevels.contains(table.topLevel + 1),
      capabilities.has2MPages || pageSizes & 1 << 21 == 0,
      capabilities.has1GPages || pageSizes & 1 << 30 == 0,
      !forcesSnooping || capabilities.snoopControl
    else { throw .invalidArgument }
  }

  /// Counts one more attachment through `driver`'s unit.
  /// - Returns: the domain's id there.
  func take(for driver: VTdDriver) throws(Errno) -> DomainID {
    try state.withLock { state throws(Errno) in
      if let index = state.attachments.firstIndex(where: { $0.driver === driver }) {
        state.attachments[index].users += 1
        return state.attachments[index].id
      }
      let id = try driver.domainIDs.take()
      state.attachments.append(Attachment(driver: driver, id: id, users: 1))
      return id
    }
  }

  func give(back driver: VTdDriver) {
    state.withLock { state in
      guard let index = state.attachments.firstIndex(where: { $0.driver === driver }) else {
        return
      }
      state.attachments[index].users -= 1
      if state.attachments[index].users == 0 {
        driver.domainIDs.give(state.attachments.remove(at: index).id)
      }
    }
  }

  /// SSADE stays clear: a domain that may track dirty pages does so only from the moment it is told.
  /// intel: pasid_pte_config_second_level()
  func makeEntry(id: DomainID) -> PASIDTableEntry {
    var entry = PASIDTableEntry()
    entry.domain = id
    entry.secondStage = table.root
    entry.levels = table.topLevel + 1
    entry.type = .secondStage
    entry.snoopsWalks = true
    entry.isPresent = true
    return entry
  }

  // MARK: PagingDomain

  /// intel: intel_iommu_enforce_cache_coherency_ss()
  package func enforceCacheCoherency() -> Bool {
    state.withLock { state in
      guard state.attachments.allSatisfy({ $0.driver.unit.capabilities.snoopControl }) else {
        return false
      }
      state.forcesSnooping = true
      return true
    }
  }

  package func map(
    _ iova: IOVA, to physical: PhysicalAddress, length: UInt64, permissions: Permissions
  ) throws(Errno) {
    let (last, overflow) = iova.rawValue.addingReportingOverflow(length &- 1)
    guard length > 0, (iova.rawValue | physical.rawValue | length) & 0xfff == 0,
      permissions.rawValue != 0
    else { throw .invalidArgument }
    guard !overflow, last <= aperture.upperBound else { throw .outOfRange }

    let (result, units) = state.withLock { state in
      let result = table.map(
        iova, to: physical, length: length, permissions: permissions,
        snoops: state.forcesSnooping)
      return (result, state.attachments)
    }
    if let error = result.error {
      table.free(result.retired, after: { flush(.init(0), length: .max, units) })
      if result.mapped > 0 { unmap(iova, length: result.mapped) }
      throw error
    }
    // intel: intel_iommu_iotlb_sync_map(); and tables that large pages replaced.
    if units.contains(where: { $0.driver.unit.capabilities.cachingMode }) {
      flush(iova, length: length, units)
    }
    table.free(result.retired, after: { flush(iova, length: length, units) })
  }

  @discardableResult
  package func unmap(_ iova: IOVA, length: UInt64) -> UInt64 {
    guard length > 0, iova.rawValue <= aperture.upperBound else { return 0 }
    let rest = aperture.upperBound - iova.rawValue
    let length = length - 1 < rest ? length : rest + 1
    let (result, units) = state.withLock { state in
      (table.unmap(iova, length: length), state.attachments)
    }
    if result.length > 0 || !result.retired.isEmpty {
      flush(iova, length: max(result.length, 1), units)
      table.free(result.retired)
    }
    return result.length
  }

  package func physicalAddress(of iova: IOVA) -> PhysicalAddress? {
    guard aperture.contains(iova.rawValue) else { return nil }
    return state.withLock { _ in table.physicalAddress(of: iova) }
  }

  /// Invalidates translations of `length` bytes at `iova` in every unit that may have them: the
  /// smallest aligned range that holds them, or the domain when that is larger than a unit can do.
  /// intel: cache_tag_flush_range(), calculate_psi_aligned_address()
  private func flush(_ iova: IOVA, length: UInt64, _ units: [Attachment]) {
    let (sum, overflow) = iova.rawValue.addingReportingOverflow(length - 1)
    let last = overflow ? UInt64.max : sum
    let shift = max(12, UInt64.bitWidth - (iova.rawValue ^ last).leadingZeroBitCount)
    for unit in units {
      let isPageSelective = shift - 12 <= unit.driver.unit.capabilities.maximumAddressMask
      let start = isPageSelective ? (iova.rawValue >> UInt64(shift)) << UInt64(shift) : 0
      unit.driver.unit.invalidateIOTLB(
        isPageSelective ? .pages(unit.id, IOVA(start), shift: shift) : .domain(unit.id))
    }
  }
}

extension PagingTable {
  /// Frees tables after an invalidation, if there are any.
  fileprivate func free(_ retired: RetiredTables, after invalidate: () -> Void) {
    guard !retired.isEmpty else { return }
    invalidate()
    free(retired)
  }
}

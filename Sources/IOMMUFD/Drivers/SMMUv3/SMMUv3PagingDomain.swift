// SPDX-License-Identifier: Apache-2.0

// A paging domain of the arm-smmu-v3 driver (struct arm_smmu_domain) on one unit: one page table,
// which is a stage 1 table with an ASID or a stage 2 table with a VMID. The page table is that of
// io-pgtable-arm with 4 KiB pages.

package import IOMMU
internal import Synchronization
package import SystemPackage

package final class SMMUv3PagingDomain: PagingDomain, DirtyTracking {
  package enum Stage: Sendable {
    case stage1
    case stage2
  }

  let stage: Stage
  let driver: SMMUv3Driver
  /// The ASID of a stage 1 domain, the VMID of a stage 2 domain.
  let tag: UInt16
  package let aperture: ClosedRange<UInt64>
  package let pageSizes: UInt64
  private let isNestParent: Bool
  private let tracksDirty: Bool
  private let table: PagingTable
  private let state = Mutex(State())

  private struct State {
    /// The number of attachments: of devices, of PASIDs, and through nested domains.
    var users = 0
    /// Whether only coherent devices can be attached.
    var enforcesCoherency = false
    var hasIncoherentUsers = false
    /// The device TLBs that can have translations of the domain.
    var atsUsers = CountedSet<SMMUv3ATSUser>()
  }

  /// arm-smmu-v3: arm_smmu_domain_finalise()
  init(
    _ stage: Stage, isNestParent: Bool, tracksDirty: Bool, driver: SMMUv3Driver
  ) throws(Errno) {
    self.stage = stage
    self.driver = driver
    self.isNestParent = isNestParent
    self.tracksDirty = tracksDirty
    let output = driver.unit.capabilities.outputAddressBits
    switch stage {
    case .stage1:
      table = try PagingTable(vmsav8Stage1In: driver.memory)
    case .stage2:
      table = try PagingTable(vmsav8Stage2AddressBits: output, memory: driver.memory)
    }
    pageSizes = Self.pageSizes(ofGranule: driver.unit.capabilities.driverGranule) ?? table.pageSizes
    aperture = 0...(1 << UInt64(stage == .stage1 ? 48 : output) - 1)
    do throws(Errno) {
      tag = try stage == .stage1 ? driver.asids.allocate() : driver.vmids.allocate()
    } catch {
      table.destroy()
      throw error
    }
  }

  deinit {
    // The tag can be allocated again, so no translation with it may stay cached.
    invalidateAll()
    table.destroy()
    if stage == .stage1 { driver.asids.release(tag) } else { driver.vmids.release(tag) }
  }

  /// Returns the page sizes of a granule that is larger than the host's pages. iommufd refuses a
  /// domain without pages of 4 KiB (iommufd: iopt_table_add_domain()), so no such table is filled.
  private static func pageSizes(ofGranule shift: Int) -> UInt64? {
    switch shift {
    case 14: 1 << 14 | 1 << 25
    case 16: 1 << 16 | 1 << 29
    default: nil
    }
  }

  // MARK: Structures

  /// Sets the fields of a context descriptor that TCR, MAIR, TTBR and the ASID determine
  /// (io-pgtable-arm: arm_64_lpae_alloc_pgtable_s1()).
  func fill(_ descriptor: inout ContextDescriptor) {
    descriptor.inputBits = 48
    descriptor.granuleShift = 12
    descriptor.outputSizeField = outputSizeField
    descriptor.table = table.root
    descriptor.asid = tag
    // Normal non-cacheable, normal write-back, device, inner non-cacheable outer write-back.
    descriptor.memoryAttributes = 0xf404_ff44
    descriptor.updatesAccessFlag = tracksDirty
    descriptor.updatesDirtyState = tracksDirty
  }

  /// Sets the fields of a stream table entry that VTCR, VTTBR and the VMID determine
  /// (io-pgtable-arm: arm_64_lpae_alloc_pgtable_s2()).
  func fill(_ entry: inout StreamTableEntry) {
    entry.vmid = tag
    entry.inputBits = driver.unit.capabilities.outputAddressBits
    entry.granuleShift = 12
    // The encoding of SL0 for a 4 KiB granule.
    entry.startLevelField = UInt64(2 - (3 - table.topLevel))
    entry.outputSizeField = outputSizeField
    entry.table = table.root
    entry.forcesWriteBack = forcesWriteBack
  }

  /// IO_PGTABLE_QUIRK_ARM_S2FWB
  private var forcesWriteBack: Bool {
    isNestParent && driver.unit.capabilities.forcedWriteBack
  }

  private var outputSizeField: UInt64 {
    SMMUv3Capabilities.encoding(ofSize: driver.unit.capabilities.outputAddressBits)
  }

  // MARK: Users

  /// arm-smmu-v3: arm_smmu_attach_prepare()
  /// - Throws: `.invalidArgument` for an incoherent device when the domain enforces coherency.
  func addUser(isCoherent: Bool) throws(Errno) {
    try state.withLock { state throws(Errno) in
      guard isCoherent || !state.enforcesCoherency else { throw .invalidArgument }
      state.users += 1
      if !isCoherent { state.hasIncoherentUsers = true }
    }
  }

  /// Removes a user. After the last user the domain's translations are invalidated
  /// (arm-smmu-v3: arm_smmu_inv_flush_iotlb_tag()).
  func removeUser() {
    let isUnused = state.withLock { state in
      state.users -= 1
      if state.users == 0 { state.hasIncoherentUsers = false }
      return state.users == 0
    }
    if isUnused { invalidateAll() }
  }

  func addATSUser(_ user: SMMUv3ATSUser) { state.withLock { $0.atsUsers.add(user) } }
  func removeATSUser(_ user: SMMUv3ATSUser) { state.withLock { $0.atsUsers.remove(user) } }

  /// arm-smmu-v3: arm_smmu_enforce_cache_coherency()
  package func enforceCacheCoherency() -> Bool {
    state.withLock { state in
      state.enforcesCoherency = !state.hasIncoherentUsers
      return state.enforcesCoherency
    }
  }

  // MARK: Mapping

  package func map(
    _ iova: IOVA, to physical: PhysicalAddress, length: UInt64, permissions: Permissions
  ) throws(Errno) {
    _ = try requireMappable(iova, to: physical, length: length, permissions)
    let result = state.withLock { _ in
      table.map(
        iova, to: physical, length: length, permissions: permissions, snoops: forcesWriteBack)
    }
    // Units do not cache invalid descriptors. They can cache page tables that large pages have
    // replaced.
    if !result.retired.isEmpty {
      invalidate(iova, length: length)
      table.free(result.retired)
    }
    try undoMapping(result.mapped, at: iova, after: result.error)
  }

  @discardableResult
  package func unmap(_ iova: IOVA, length: UInt64) -> UInt64 {
    let length = iova.clipped(length, through: aperture.upperBound)
    let result = state.withLock { _ in table.unmap(iova, length: length) }
    if result.length > 0 || !result.retired.isEmpty {
      invalidate(iova, length: max(result.length, 1))
      table.free(result.retired)
    }
    return result.length
  }

  package func physicalAddress(of iova: IOVA) -> PhysicalAddress? {
    guard aperture.contains(iova.rawValue) else { return nil }
    return state.withLock { _ in table.physicalAddress(of: iova) }
  }

  // MARK: Dirty tracking

  package var dirtyTracking: (any DirtyTracking)? { tracksDirty ? self : nil }

  /// arm-smmu-v3: arm_smmu_set_dirty_tracking(). The unit always records writes of such a domain.
  package func setDirtyTracking(_ isEnabled: Bool) throws(Errno) {}

  /// io-pgtable-arm: arm_lpae_read_and_clear_dirty(). In the kernel iommufd's core invalidates the
  /// cleared pages.
  package func readDirty(
    _ range: ClosedRange<IOVA>, clearing: Bool, _ report: (IOVA, UInt64) -> Void
  ) throws(Errno) {
    guard aperture.contains(range.upperBound.rawValue) else { throw .invalidArgument }
    var hasCleared = false
    state.withLock { _ in
      table.readDirty(range, clearing: clearing) {
        hasCleared = clearing
        report($0, $1)
      }
    }
    if hasCleared {
      let length = range.upperBound.rawValue - range.lowerBound.rawValue
      invalidate(range.lowerBound, length: length == .max ? length : length + 1)
    }
  }

  // MARK: Invalidation

  /// Invalidates every translation of the domain in the unit (arm-smmu-v3:
  /// __arm_smmu_domain_inv_range()).
  private func invalidateAll() {
    let command: SMMUv3Command =
      stage == .stage1 ? .tlbi(.tlbiASID, asid: tag) : .tlbi(.tlbiStage12, vmid: tag)
    driver.unit.submit([command, .sync])
  }

  /// Invalidates the range in the unit and in device TLBs. For a nesting parent the stage 1
  /// translations of guests are invalidated too, because they depend on the range.
  private func invalidate(_ iova: IOVA, length: UInt64) {
    var commands = rangeCommands(iova, pages: (length + 0xfff) >> 12)
    if commands.isEmpty {
      invalidateAll()
    } else {
      if isNestParent { commands.append(.tlbi(.tlbiAll, vmid: tag)) }
      commands.append(.sync)
      driver.unit.submit(commands)
    }
    invalidateATCs(iova, length: length)
  }

  /// Invalidates the range in device TLBs. The device TLBs of nested devices have guest addresses,
  /// so for a nesting parent all of their translations are invalidated (arm-smmu-v3:
  /// arm_smmu_atc_inv_to_cmd()).
  private func invalidateATCs(_ iova: IOVA, length: UInt64) {
    let users = state.withLock { $0.atsUsers.elements }
    guard !users.isEmpty else { return }
    let (last, overflow) = iova.rawValue.addingReportingOverflow(length - 1)
    let difference = iova.rawValue ^ (overflow ? .max : last)
    let shift = isNestParent ? 64 : max(12, UInt64.bitWidth - difference.leadingZeroBitCount)
    driver.unit.submit(
      users.map {
        .invalidateATC($0.stream, pasid: $0.pasid, address: iova, sizeShift: shift)
      } + [.sync])
  }

  /// MAX_TLBI_OPS: in a unit without range commands, the kernel invalidates everything from this
  /// number of pages on.
  private static let singleLimit: UInt64 = 512

  /// Returns the commands that invalidate `pages` pages at `iova`
  /// (arm-smmu-v3: arm_smmu_cmdq_batch_add_range(), without level hints).
  /// - Returns: No command when the range has too many pages.
  private func rangeCommands(_ iova: IOVA, pages: UInt64) -> [SMMUv3Command] {
    let start = iova.rawValue & ~0xfff
    let command: SMMUv3Command =
      stage == .stage1
      ? .tlbi(.tlbiAddress, asid: tag) : .tlbi(.tlbiStage2Address, vmid: tag)
    var commands: [SMMUv3Command] = []
    if driver.unit.capabilities.rangeInvalidation {
      // A command with TTL, NUM and SCALE 0 is not a range, so the kernel adds a page.
      var (address, left) = (start, pages & 31 == 1 ? pages + 1 : pages)
      while left > 0 {
        let scale = left.trailingZeroBitCount
        let count = left >> UInt64(scale) & 31
        var part = command
        part.setRange(
          address, granuleShift: 12, count: count, scale: UInt64(scale & 31), levelHint: 0,
          isLeaf: false)
        commands.append(part)
        address &+= count << UInt64(scale + 12)
        left -= count << UInt64(scale)
      }
    } else if pages < Self.singleLimit {
      for page in 0..<pages {
        var part = command
        part.setAddress(start &+ page << 12, isLeaf: false)
        commands.append(part)
      }
    }
    return commands
  }
}

/// A device with ATS, or one of its PASIDs, whose device TLB a domain invalidates.
struct SMMUv3ATSUser: Hashable, Sendable {
  let stream: StreamID
  let pasid: PASID?
}

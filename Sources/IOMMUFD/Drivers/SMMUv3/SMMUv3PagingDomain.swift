// A kernel-managed domain of the arm-smmu-v3 driver (struct arm_smmu_domain): one table, of stage 1 with an
// ASID or of stage 2 with a VMID, on one unit. Its tables are those of io-pgtable-arm, with 4 KiB pages.

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
  /// ASID of stage 1, VMID of stage 2.
  let tag: UInt16
  package let aperture: ClosedRange<UInt64>
  package var pageSizes: UInt64 { table.pageSizes }
  private let isNestingParent: Bool
  private let tracksDirty: Bool
  private let table: PagingTable
  private let state = Mutex(State())

  private struct State {
    /// Attachments: of devices, their PASIDs, and nested domains.
    var users = 0
    /// Only coherent devices are accepted any more.
    var enforcesCoherency = false
    var hasIncoherentUsers = false
    /// Devices that keep translations of their own.
    var atsUsers: [SMMUv3ATSUser] = []
  }

  /// arm-smmu-v3: arm_smmu_domain_finalise()
  init(
    _ stage: Stage, isNestingParent: Bool, tracksDirty: Bool, driver: SMMUv3Driver
  ) throws(Errno) {
    self.stage = stage
    self.driver = driver
    self.isNestingParent = isNestingParent
    self.tracksDirty = tracksDirty
    let output = driver.unit.capabilities.outputAddressBits
    switch stage {
    case .stage1:
      table = try PagingTable(vmsav8Stage1In: driver.memory)
    case .stage2:
      table = try PagingTable(vmsav8Stage2AddressBits: output, memory: driver.memory)
    }
    aperture = 0...(1 << UInt64(stage == .stage1 ? 48 : output) - 1)
    do throws(Errno) {
      tag = try stage == .stage1 ? driver.asids.take() : driver.vmids.take()
    } catch {
      table.destroy()
      throw error
    }
  }

  deinit {
    // The number may be given out again, so nothing may be cached for it.
    invalidateAll()
    table.destroy()
    if stage == .stage1 { driver.asids.give(tag) } else { driver.vmids.give(tag) }
  }

  // MARK: What structures say of it

  /// TCR of stage 1, and the ASID. io-pgtable-arm: arm_64_lpae_alloc_pgtable_s1()
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

  /// VTCR of stage 2, and the VMID. io-pgtable-arm: arm_64_lpae_alloc_pgtable_s2()
  func fill(_ entry: inout StreamTableEntry) {
    entry.vmid = tag
    entry.inputBits = driver.unit.capabilities.outputAddressBits
    entry.granuleShift = 12
    // The format of SL0 for this granule.
    entry.startLevelField = UInt64(2 - (3 - table.topLevel))
    entry.outputSizeField = outputSizeField
    entry.table = table.root
    entry.forcesWriteBack = forcesWriteBack
  }

  /// IO_PGTABLE_QUIRK_ARM_S2FWB
  private var forcesWriteBack: Bool {
    isNestingParent && driver.unit.capabilities.forcedWriteBack
  }

  private var outputSizeField: UInt64 {
    SMMUv3Capabilities.encoding(ofSize: driver.unit.capabilities.outputAddressBits)
  }

  // MARK: Users

  /// arm-smmu-v3: arm_smmu_attach_prepare()
  /// - Throws: `.invalidArgument` when the domain only takes coherent devices.
  func addUser(isCoherent: Bool) throws(Errno) {
    try state.withLock { state throws(Errno) in
      guard isCoherent || !state.enforcesCoherency else { throw .invalidArgument }
      state.users += 1
      if !isCoherent { state.hasIncoherentUsers = true }
    }
  }

  /// The last one leaves nothing cached. arm-smmu-v3: arm_smmu_inv_flush_iotlb_tag()
  func dropUser() {
    let isUnused = state.withLock { state in
      state.users -= 1
      if state.users == 0 { state.hasIncoherentUsers = false }
      return state.users == 0
    }
    if isUnused { invalidateAll() }
  }

  func addATSUser(_ user: SMMUv3ATSUser) { state.withLock { $0.atsUsers.append(user) } }

  func removeATSUser(_ user: SMMUv3ATSUser) {
    state.withLock { state in
      if let index = state.atsUsers.firstIndex(of: user) { state.atsUsers.remove(at: index) }
    }
  }

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
    // Absent entries are not cached; tables that large pages replaced may be in use.
    if !result.retired.isEmpty {
      invalidate(iova, length: length)
      table.free(result.retired)
    }
    try undo(result.mapped, at: iova, after: result.error)
  }

  @discardableResult
  package func unmap(_ iova: IOVA, length: UInt64) -> UInt64 {
    let length = iova.rawValue.clipped(length, through: aperture.upperBound)
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

  /// Hardware always does it. arm-smmu-v3: arm_smmu_set_dirty_tracking()
  package func setDirtyTracking(_ isEnabled: Bool) throws(Errno) {}

  /// io-pgtable-arm: arm_lpae_read_and_clear_dirty(). The core invalidates what was cleared.
  package func readDirty(
    _ range: ClosedRange<UInt64>, clearing: Bool, _ report: (IOVA, UInt64) -> Void
  ) throws(Errno) {
    guard aperture.contains(range.upperBound) else { throw .invalidArgument }
    var hasCleared = false
    state.withLock { _ in
      table.readDirty(range, clearing: clearing) {
        hasCleared = clearing
        report($0, $1)
      }
    }
    if hasCleared {
      let length = range.upperBound - range.lowerBound
      invalidate(IOVA(range.lowerBound), length: length == .max ? length : length + 1)
    }
  }

  // MARK: Invalidation

  /// arm-smmu-v3: __arm_smmu_domain_inv_range() for everything.
  private func invalidateAll() {
    let command: SMMUv3Command =
      stage == .stage1 ? .tlbi(.tlbiASID, asid: tag) : .tlbi(.tlbiStage12, vmid: tag)
    driver.unit.submit([command, .sync])
  }

  /// The same for a range; what guests' stage 1 made of it has to go with it.
  private func invalidate(_ iova: IOVA, length: UInt64) {
    var commands = rangeCommands(iova.rawValue & ~0xfff, pages: (length + 0xfff) >> 12)
    if commands.isEmpty {
      invalidateAll()
    } else {
      if isNestingParent { commands.append(.tlbi(.tlbiAll, vmid: tag)) }
      commands.append(.sync)
      driver.unit.submit(commands)
    }
    invalidateATCs(iova.rawValue, length: length)
  }

  /// Of a nesting parent nobody knows which addresses of the device's are meant: all of them.
  /// arm-smmu-v3: arm_smmu_atc_inv_to_cmd()
  private func invalidateATCs(_ iova: UInt64, length: UInt64) {
    let users = state.withLock { $0.atsUsers }
    guard !users.isEmpty else { return }
    let (last, overflow) = iova.addingReportingOverflow(length - 1)
    let difference = iova ^ (overflow ? .max : last)
    let shift = isNestingParent ? 64 : max(12, UInt64.bitWidth - difference.leadingZeroBitCount)
    driver.unit.submit(
      users.map {
        .invalidateATC($0.stream, pasid: $0.pasid, address: IOVA(iova), sizeShift: shift)
      } + [.sync])
  }

  /// MAX_TLBI_OPS: without range commands, so many pages are worse than everything.
  private static let singleLimit: UInt64 = 512

  /// arm-smmu-v3: arm_smmu_cmdq_batch_add_range(), without level hints.
  /// - Returns: none when the range is too large.
  private func rangeCommands(_ address: UInt64, pages: UInt64) -> [SMMUv3Command] {
    let command: SMMUv3Command =
      stage == .stage1
      ? .tlbi(.tlbiAddress, asid: tag) : .tlbi(.tlbiStage2Address, vmid: tag)
    var commands: [SMMUv3Command] = []
    if driver.unit.capabilities.rangeInvalidation {
      // One page without a hint is no range.
      var (address, left) = (address, pages & 31 == 1 ? pages + 1 : pages)
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
        part.setAddress(address &+ page << 12, isLeaf: false)
        commands.append(part)
      }
    }
    return commands
  }
}

/// A device, or one PASID of it, whose own translations a domain has to invalidate.
struct SMMUv3ATSUser: Equatable, Sendable {
  let stream: StreamID
  let pasid: PASID?
}

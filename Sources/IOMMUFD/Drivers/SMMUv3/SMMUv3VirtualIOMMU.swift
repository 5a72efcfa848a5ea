// A guest's slice of an SMMUv3 (struct arm_vsmmu): the VMID of its memory, under which the unit caches what
// the guest's tables say, and the guest's commands to forget it.

internal import CUAPI
internal import IOMMU
internal import SystemPackage

final class SMMUv3VirtualIOMMU: VirtualIOMMU {
  let parent: SMMUv3PagingDomain
  let host: any VirtualIOMMUHost

  init(on parent: SMMUv3PagingDomain, host: any VirtualIOMMUHost) {
    self.parent = parent
    self.host = host
  }

  /// arm-smmu-v3: arm_vsmmu_alloc_domain_nested()
  func makeNestedDomain(
    for device: RequesterID, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> any NestedDomain {
    guard flags.isEmpty else { throw .notSupported }
    return try SMMUv3NestedDomain(of: self, data: data)
  }

  // MARK: Invalidation

  /// CMDQ_BATCH_ENTRIES - 1: with its CMD_SYNC a batch fills no more than the kernel's bitmap.
  private static let batchLength = 63

  /// Commands go to the unit in batches; one that cannot be converted ends the call with those before it
  /// in its batch counted, but not sent. arm-smmu-v3: arm_vsmmu_cache_invalidate()
  func invalidate(_ entries: UserDataArray, handled: inout Int) throws(Errno) {
    let commands = try entries.loadAll(
      iommu_viommu_arm_smmuv3_invalidate.self,
      type: IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3.rawValue)
    var batch: [SMMUv3Command] = []
    for command in commands {
      batch.append(try convert(command))
      handled += 1
      guard handled == commands.count || batch.count == Self.batchLength else { continue }
      send(batch)
      batch.removeAll(keepingCapacity: true)
    }
  }

  /// What the unit finds illegal although it passed, the kernel takes for a CMD_SYNC and goes on.
  /// arm-smmu-v3: __arm_smmu_cmdq_skip_err()
  private func send(_ batch: [SMMUv3Command]) {
    var rest = batch[...]
    while !rest.isEmpty {
      do throws(SMMUv3Unit.CommandError) {
        try parent.driver.unit.execute(rest)
        return
      } catch {
        rest = rest.dropFirst(error.index + 1)
      }
    }
  }

  /// Names the guest's own VMID, or the device's own stream. arm-smmu-v3: arm_vsmmu_convert_user_cmd()
  private func convert(
    _ command: iommu_viommu_arm_smmuv3_invalidate
  ) throws(Errno) -> SMMUv3Command {
    let command = SMMUv3Command(
      lower: UInt64(littleEndian: command.cmd.0), upper: UInt64(littleEndian: command.cmd.1))
    guard SMMUv3GuestCommand.isAllowed(command, on: parent.driver.unit.capabilities) else {
      throw .ioError
    }
    if command.opcode == .tlbiEverything { return .tlbi(.tlbiAll, vmid: parent.tag) }
    let confined = command.confined(toVMID: parent.tag) { stream in
      host.device(virtualID: UInt64(stream.rawValue)).map { StreamID($0) }
    }
    guard let confined else { throw .ioError }
    return confined
  }
}

/// What a guest may say to the unit: the fields that it may set, by operation; everything else is zero.
/// arm-smmu-v3: arm_vsmmu_validate_user_cmd()
enum SMMUv3GuestCommand {
  private static let operation: UInt64 = 0xff
  private static let substreamValid: UInt64 = 1 << 11
  private static let substream: UInt64 = 0xf_ffff << 12
  private static let stream: UInt64 = 0xffff_ffff << 32
  private static let vmid: UInt64 = 0xffff << 32
  private static let range: UInt64 = 0x1f << 12 | 0x1f << 20
  /// The bit of SCALE that only units with 52-bit addresses have.
  private static let wideScale: UInt64 = 1 << 25
  private static let leaf: UInt64 = 1
  private static let hints: UInt64 = 3 << 8 | 3 << 10
  private static let address: UInt64 = ~0xfff

  static func isAllowed(_ command: SMMUv3Command, on unit: SMMUv3Capabilities) -> Bool {
    var lower = operation
    var upper: UInt64 = 0
    let asid = (UInt64(1) << UInt64(unit.asidBits) - 1) << 48
    let hasSubstreams = unit.substreamBits > 0
    switch command.opcode {
    case .tlbiEverything:
      break
    case .tlbiAddress, .tlbiAddressAllASIDs:
      if unit.rangeInvalidation {
        guard isRangeAllowed(command) else { return false }
        lower |= range
        upper |= hints
      }
      if command.opcode == .tlbiAddress { lower |= asid }
      lower |= vmid
      upper |= leaf | address
    case .tlbiASID:
      lower |= asid | vmid
    case .tlbiAll:
      lower |= vmid
    case .invalidateATC:
      // CMDQ_ATC_1_SIZE has one value for everything.
      guard unit.ats, command.words[1] & 0x3f <= 52 else { return false }
      if hasSubstreams { lower |= substreamValid | substream | 1 << 9 }
      lower |= stream
      upper |= 0x3f | address
    case .invalidateContext:
      if hasSubstreams { lower |= substream }
      lower |= stream
      upper |= leaf
    case .invalidateAllContexts:
      lower |= stream
    default:
      return false
    }
    return command.words[0] & ~lower == 0 && command.words[1] & ~upper == 0
  }

  /// arm-smmu-v3: arm_vsmmu_validate_range()
  private static func isRangeAllowed(_ command: SMMUv3Command) -> Bool {
    let hasRange = command.words[0] & (range | wideScale) != 0
    let level = command.words[1] >> 8 & 3
    switch command.words[1] >> 10 & 3 {
    case 0: return !hasRange && level == 0
    // 16 KiB tables have leaves at level 1 with 52-bit addresses only.
    case 2 where level == 1: return false
    default: return hasRange || level != 0
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import IOMMU

/// The commands that a guest may send: for each operation, the fields that the guest may set. Every
/// other bit must be 0 (arm-smmu-v3: arm_vsmmu_validate_user_cmd()).
enum SMMUv3GuestCommand {
  private static let operation: UInt64 = 0xff
  private static let substreamValid: UInt64 = 1 << 11
  private static let substream: UInt64 = 0xf_ffff << 12
  private static let stream: UInt64 = 0xffff_ffff << 32
  private static let vmid: UInt64 = 0xffff << 32
  private static let range: UInt64 = 0x1f << 12 | 0x1f << 20
  /// The bit of SCALE that exists only in units with 52-bit addresses.
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
      // In CMDQ_ATC_1_SIZE 52 is the value for all addresses.
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
    // Tables with a 16 KiB granule have level 1 leaves only with 52-bit addresses.
    case 2 where level == 1: return false
    default: return hasRange || level != 0
    }
  }
}

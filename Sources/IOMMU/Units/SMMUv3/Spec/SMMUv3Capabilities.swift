// SPDX-License-Identifier: Apache-2.0

// Arm System Memory Management Unit Architecture Specification, version 3, ARM IHI 0070 (issue
// G.b). All files of this folder cite that document.

/// The capabilities of one unit, as its identification registers report them (§6.3.1 to §6.3.8).
///
/// Not configurable: AArch64 tables only, little-endian, coherent walks, abort termination
/// (TERM_MODEL), no EL2 stream world (Hyp), no 52-bit addresses (VAX, DS).
package struct SMMUv3Capabilities: Hashable, Sendable {
  /// The values of STALL_MODEL.
  package enum StallModel: UInt64, Sendable {
    case configurable = 0
    case terminate = 1
    case stall = 2
  }

  /// S1P, S2P
  package var stage1 = true
  package var stage2 = true
  /// ST_LEVEL, CD2L: two-level stream and context descriptor tables.
  package var twoLevelStreamTable = true
  package var twoLevelContextTable = true
  /// ASID16, VMID16
  package var wideASIDs = true
  package var wideVMIDs = true
  /// SIDSIZE, SSIDSIZE
  package var streamBits = 16
  package var substreamBits = 20
  /// HTTU: hardware updates access flags, and dirty state.
  package var updatesAccessFlag = true
  package var updatesDirtyState = true
  package var ats = false
  package var stallModel = StallModel.configurable
  /// STALL_MAX: the maximum number of stalled transactions.
  package var maximumStalls = 64
  /// HAD: hierarchical attributes can be disabled.
  package var hierarchicalAttributeDisable = true
  /// FWB: stage 2 can force write-back.
  package var forcedWriteBack = true
  /// RIL: invalidation by range and level.
  package var rangeInvalidation = true
  /// GRAN4K, GRAN16K, GRAN64K, as log2 of the granule.
  package var granules: Set<Int> = [12, 14, 16]
  /// CMDQS, EVENTQS: log2 of the number of entries.
  package var commandQueueBits = 15
  package var eventQueueBits = 10
  /// The minimum of OAS. A unit raises OAS so that it reaches all memory of the machine.
  package var outputAddressBits = 32
  /// SMMU_IIDR. Zero names no implementer, so drivers apply no errata workarounds.
  package var implementation: UInt32 = 0

  package init() {}

  /// The address sizes that OAS, IPS and S2PS encode, indexed by the encoding.
  static let addressSizes = [32, 36, 40, 42, 44, 48, 52]

  /// Returns the smallest encodable size that is not less than `bits`, at most 48.
  static func encodedSize(notBelow bits: Int) -> Int {
    addressSizes.first { $0 >= bits && $0 <= 48 } ?? 48
  }

  package static func encoding(ofSize bits: Int) -> UInt64 {
    UInt64(addressSizes.lastIndex { $0 <= bits } ?? 0)
  }

  package var asidBits: Int { wideASIDs ? 16 : 8 }
  package var vmidBits: Int { wideVMIDs ? 16 : 8 }
  /// The intermediate address size. §3.4: without AArch32 tables it is the output address size.
  var intermediateAddressBits: Int { outputAddressBits }

  /// SMMU_IDR0 to SMMU_IDR5.
  package var identification: [UInt32] { [idr0, idr1, 0, idr3, 0, idr5] }

  private var idr0: UInt32 {
    var bits: InlineArray<1, UInt64> = [0]
    bits[bit: 0] = stage2
    bits[bit: 1] = stage1
    bits[3, 2] = 2  // TTF: AArch64
    bits[bit: 4] = true  // COHACC
    bits[7, 6] = updatesDirtyState ? 2 : updatesAccessFlag ? 1 : 0
    bits[bit: 10] = ats
    bits[bit: 12] = wideASIDs
    bits[bit: 13] = true  // MSI
    bits[bit: 18] = wideVMIDs
    bits[bit: 19] = twoLevelContextTable
    bits[22, 21] = 2  // TTENDIAN: little
    bits[25, 24] = stallModel.rawValue
    bits[bit: 26] = true  // TERM_MODEL
    bits[28, 27] = twoLevelStreamTable ? 1 : 0
    return UInt32(truncatingIfNeeded: bits[0])
  }

  private var idr1: UInt32 {
    var bits: InlineArray<1, UInt64> = [0]
    bits[5, 0] = UInt64(streamBits)
    bits[10, 6] = UInt64(substreamBits)
    bits[20, 16] = UInt64(eventQueueBits)
    bits[25, 21] = UInt64(commandQueueBits)
    bits[bit: 27] = true  // ATTR_TYPES_OVR
    return UInt32(truncatingIfNeeded: bits[0])
  }

  private var idr3: UInt32 {
    var bits: InlineArray<1, UInt64> = [0]
    bits[bit: 2] = hierarchicalAttributeDisable
    bits[bit: 8] = forcedWriteBack
    bits[bit: 10] = rangeInvalidation
    return UInt32(truncatingIfNeeded: bits[0])
  }

  private var idr5: UInt32 {
    var bits: InlineArray<1, UInt64> = [0]
    bits[2, 0] = Self.encoding(ofSize: outputAddressBits)
    bits[bit: 4] = granules.contains(12)
    bits[bit: 5] = granules.contains(14)
    bits[bit: 6] = granules.contains(16)
    bits[31, 16] = stallModel == .terminate ? 0 : UInt64(maximumStalls)
    return UInt32(truncatingIfNeeded: bits[0])
  }

  /// SMMU_AIDR: SMMUv3.2, which introduced FWB and RIL.
  package var architecture: UInt32 { 2 }
}

// A guest's stage 1 in front of a nesting parent (struct arm_smmu_nested_domain): the part of a stream
// table entry that the guest decides. It has no invalidation of its own; that is the virtual
// unit's.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

final class SMMUv3NestedDomain: NestedDomain {
  let unit: SMMUv3VirtualIOMMU
  /// The two words; zeros for an entry that is not valid.
  let guestEntry: StreamTableEntry
  /// EATS: the guest translates with ATS, and sends the invalidations that it needs.
  let enablesATS: Bool

  var parent: SMMUv3PagingDomain { unit.parent }

  /// An entry that is not valid is one that aborts.
  var configuration: StreamTableEntry.Configuration { guestEntry.configuration }

  /// arm-smmu-v3: arm_vsmmu_alloc_domain_nested()
  init(of unit: SMMUv3VirtualIOMMU, data: UserData) throws(Errno) {
    let argument = try data.load(
      iommu_hwpt_arm_smmuv3.self, type: IOMMU_HWPT_DATA_ARM_SMMUV3.rawValue,
      minimumThrough: \.ste)
    var entry = StreamTableEntry()
    entry.words[0] = UInt64(littleEndian: argument.ste.0)
    entry.words[1] = UInt64(littleEndian: argument.ste.1)
    guestEntry = try Self.validated(entry)
    enablesATS = guestEntry.configuration == .stage1 && entry.ats == 1
    try FaultInjection.step()
    self.unit = unit
  }

  /// STRTAB_STE_0_NESTING_ALLOWED: V, Config, S1Fmt, S1ContextPtr, S1CDMax
  private static let allowed0: UInt64 = 1 << 0 | 7 << 1 | 3 << 4 | 0x000f_ffff_ffff_ffc0 | 31 << 59
  /// STRTAB_STE_1_NESTING_ALLOWED: S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, EATS
  private static let allowed1: UInt64 = 0xff | 1 << 27 | 3 << 28

  /// arm-smmu-v3: arm_smmu_validate_vste()
  private static func validated(_ entry: StreamTableEntry) throws(Errno) -> StreamTableEntry {
    guard entry.isValid else { return StreamTableEntry() }
    guard entry.words[0] & ~allowed0 == 0, entry.words[1] & ~allowed1 == 0 else { throw .ioError }
    // Values of Config that mean nothing are not taken for an abort here.
    switch entry.words[0] >> 1 & 7 {
    case StreamTableEntry.Configuration.abort.rawValue,
      StreamTableEntry.Configuration.bypass.rawValue,
      StreamTableEntry.Configuration.stage1.rawValue:
      break
    default: throw .ioError
    }
    guard entry.ats <= 1 else { throw .ioError }
    var entry = entry
    // Set at attach when the device can do ATS.
    entry.ats = 0
    return entry
  }
}

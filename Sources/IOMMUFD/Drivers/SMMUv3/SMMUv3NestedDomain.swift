// SPDX-License-Identifier: Apache-2.0

// A guest's stage 1, nested on a stage 2 domain (struct arm_smmu_nested_domain): the fields of a
// stream table entry that the guest decides. The guest invalidates through its vIOMMU, so the
// domain has no invalidation.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

final class SMMUv3NestedDomain: NestedDomain {
  let viommu: SMMUv3VirtualIOMMU
  /// The first two words of the guest's stream table entry. Both are 0 when the entry is not valid.
  let guestEntry: StreamTableEntry
  /// Whether the guest enables ATS (STE.EATS). Such a guest also sends the ATC invalidations that
  /// it needs.
  let enablesATS: Bool

  /// PASIDs belong to the guest.
  var hasPASIDAttach: Bool { false }

  var parent: SMMUv3PagingDomain { viommu.parent }

  /// The guest's STE.Config. An entry that is not valid aborts transactions.
  var configuration: StreamTableEntry.Configuration { guestEntry.configuration }

  /// arm-smmu-v3: arm_vsmmu_alloc_domain_nested()
  init(of viommu: SMMUv3VirtualIOMMU, data: UserData) throws(Errno) {
    let argument = try data.load(
      iommu_hwpt_arm_smmuv3.self, type: IOMMU_HWPT_DATA_ARM_SMMUV3.rawValue,
      minimumThrough: \.ste)
    var entry = StreamTableEntry()
    entry.words[0] = UInt64(littleEndian: argument.ste.0)
    entry.words[1] = UInt64(littleEndian: argument.ste.1)
    guestEntry = try Self.validated(entry)
    enablesATS = guestEntry.configuration == .stage1 && entry.ats == 1
    try FaultInjection.step()
    self.viommu = viommu
  }

  /// STRTAB_STE_0_NESTING_ALLOWED: V, Config, S1Fmt, S1ContextPtr, S1CDMax
  private static let allowed0: UInt64 = 1 << 0 | 7 << 1 | 3 << 4 | 0x000f_ffff_ffff_ffc0 | 31 << 59
  /// STRTAB_STE_1_NESTING_ALLOWED: S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, EATS
  private static let allowed1: UInt64 = 0xff | 1 << 27 | 3 << 28

  /// arm-smmu-v3: arm_smmu_validate_vste()
  private static func validated(_ entry: StreamTableEntry) throws(Errno) -> StreamTableEntry {
    guard entry.isValid else { return StreamTableEntry() }
    guard entry.words[0] & ~allowed0 == 0, entry.words[1] & ~allowed1 == 0 else { throw .ioError }
    // The raw value is compared, because `configuration` reads a reserved value of Config as abort.
    switch entry.words[0] >> 1 & 7 {
    case StreamTableEntry.Configuration.abort.rawValue,
      StreamTableEntry.Configuration.bypass.rawValue,
      StreamTableEntry.Configuration.stage1.rawValue:
      break
    default: throw .ioError
    }
    guard entry.ats <= 1 else { throw .ioError }
    var entry = entry
    // The driver sets EATS at attach if the device supports ATS.
    entry.ats = 0
    return entry
  }
}

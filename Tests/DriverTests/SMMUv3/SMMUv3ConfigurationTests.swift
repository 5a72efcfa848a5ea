// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite("SMMUv3: illegal stream table entries and context descriptors")
struct SMMUv3ConfigurationTests {
  private let memory: PhysicalMemory

  init() throws { memory = try PhysicalMemory(.test) }

  private func unit(_ change: (inout SMMUv3Capabilities) -> Void = { _ in }) -> SMMUv3Unit {
    var configuration = SMMUv3Unit.Configuration()
    change(&configuration.capabilities)
    return SMMUv3Unit(configuration, memory: memory)
  }

  /// Stage 1 and stage 2 with 4 KiB pages. 40 bits start at level 1.
  private var nested: StreamTableEntry {
    var entry = StreamTableEntry()
    entry.isValid = true
    entry.configuration = .nested
    entry.descriptors = 0x4000_0000
    entry.disablesStalls = true
    entry.vmid = 7
    entry.inputBits = 40
    entry.startLevelField = 1
    entry.granuleShift = 12
    entry.outputSizeField = 2
    entry.usesAArch64Tables = true
    entry.recordsFaults = true
    entry.table = PhysicalAddress(0x8000)
    return entry
  }

  private func isIllegal(
    _ unit: SMMUv3Unit, _ change: (inout StreamTableEntry) -> Void
  ) -> Bool {
    var entry = nested
    change(&entry)
    return unit.isIllegal(entry)
  }

  @Test("a stream table entry with an illegal field is an event (IHI 0070 §5.2.2)")
  func entries() {
    let all = unit()
    #expect(!all.isIllegal(nested))
    #expect(isIllegal(all) { $0.isValid = false })
    #expect(isIllegal(unit { $0.stage1 = false }) { _ in })
    #expect(isIllegal(unit { $0.stage2 = false }) { _ in })
    #expect(!isIllegal(unit { $0.stage2 = false }) { $0.configuration = .stage1 })
    #expect(isIllegal(unit { $0.stallModel = .terminate }) { _ in })
    #expect(
      !isIllegal(unit { $0.stallModel = .terminate }) { $0.disablesStalls = false })
    #expect(isIllegal(unit { $0.stallModel = .terminate }) { $0.stallsFaults = true })
    #expect(
      isIllegal(unit { $0.stallModel = .stall }) {
        $0.disablesStalls = false
        $0.stallsFaults = false
      })
    #expect(isIllegal(all) { $0.descriptorBits = 21 })
    #expect(!isIllegal(all) { $0.descriptorBits = 20 })
    let linear = unit { $0.twoLevelContextTable = false }
    #expect(
      isIllegal(linear) {
        $0.descriptorBits = 2
        $0.descriptorTable = .leaves4K
      })
    #expect(!isIllegal(linear) { $0.descriptorTable = .leaves4K })
    #expect(isIllegal(all) { $0.descriptors = 1 << 50 })
    #expect(isIllegal(all) { $0.usesAArch64Tables = false })
    #expect(isIllegal(all) { $0.words[bit: 180] = true })
    #expect(isIllegal(all) { $0.words[175, 174] = 3 })
    #expect(isIllegal(unit { $0.granules = [16] }) { _ in })
    #expect(isIllegal(unit { $0.wideVMIDs = false }) { $0.vmid = 256 })
    #expect(isIllegal(all) { $0.table = PhysicalAddress(1 << 40) })
    #expect(!isIllegal(all) { $0.configuration = .abort })
    #expect(isIllegal(unit { $0.updatesDirtyState = false }) { $0.words[bit: 183] = true })
    #expect(
      isIllegal(unit { ($0.updatesDirtyState, $0.updatesAccessFlag) = (false, false) }) {
        $0.words[bit: 184] = true
      })
    #expect(isIllegal(unit { $0.ats = true }) { $0.ats = 2 })
    #expect(!isIllegal(unit { $0.ats = true }) { $0.ats = 1 })
    #expect(!isIllegal(all) { $0.ats = 2 })
  }

  @Test(
    "an inconsistent input size and start level of stage 2 is illegal (DDI 0487: AArch64.S2InconsistentSL())",
    arguments: [
      // Granule, S2SL0, input bits, whether the entry is legal.
      (12, 0, 30, true), (12, 0, 34, true), (12, 0, 35, false), (12, 0, 24, false),
      (12, 1, 31, true), (12, 1, 42, true), (12, 1, 30, false), (12, 2, 42, false),
      (12, 3, 40, false),
      (14, 0, 25, true), (14, 0, 29, true), (14, 0, 30, false), (14, 1, 40, true),
      (14, 1, 41, false), (14, 2, 42, true), (14, 3, 42, false),
      (16, 0, 33, true), (16, 0, 34, false), (16, 1, 42, true), (16, 1, 29, false),
      (16, 2, 42, false),
    ])
  func startLevels(_ granule: Int, _ field: UInt64, _ bits: Int, _ isLegal: Bool) {
    let unit = unit { $0.outputAddressBits = 42 }
    #expect(unit.capabilities.outputAddressBits == 42)
    #expect(
      isIllegal(unit) {
        $0.granuleShift = granule
        $0.startLevelField = field
        $0.inputBits = bits
      } != isLegal)
  }

  @Test("a context descriptor with an illegal field is an event (IHI 0070 §5.4.2)")
  func descriptors() {
    let all = unit()
    func isIllegal(
      _ unit: SMMUv3Unit, _ change: (inout ContextDescriptor) -> Void,
      entry: StreamTableEntry? = nil
    ) -> Bool {
      var descriptor = ContextDescriptor.test(0x9000, asid: 300)
      change(&descriptor)
      return unit.isIllegal(descriptor, in: entry ?? nested)
    }
    var stalling = nested
    stalling.disablesStalls = false
    #expect(!isIllegal(all, { _ in }))
    #expect(isIllegal(all, { $0.isValid = false }))
    #expect(isIllegal(all, { $0.abortsFaults = false }))
    #expect(isIllegal(all, { $0.usesAArch64Tables = false }))
    #expect(isIllegal(all, { $0.stallsFaults = true }))
    #expect(!isIllegal(all, { $0.stallsFaults = true }, entry: stalling))
    #expect(
      isIllegal(unit { $0.stallModel = .terminate }, { $0.stallsFaults = true }, entry: stalling))
    #expect(isIllegal(unit { $0.stallModel = .stall }, { _ in }, entry: stalling))
    #expect(isIllegal(unit { $0.wideASIDs = false }, { _ in }))
    #expect(isIllegal(unit { $0.updatesDirtyState = false }, { $0.updatesDirtyState = true }))
    #expect(isIllegal(all, { $0.words[bit: 15] = true }))
    #expect(
      !isIllegal(
        all,
        {
          $0.words[bit: 15] = true
          $0.words[bit: 14] = true
        }))
    #expect(isIllegal(all, { $0.inputBits = 49 }))
    #expect(isIllegal(all, { $0.inputBits = 24 }))
    #expect(!isIllegal(all, { $0.inputBits = 25 }))
    #expect(isIllegal(all, { $0.words[7, 6] = 3 }))
    #expect(isIllegal(unit { $0.granules = [14] }, { _ in }))
    #expect(isIllegal(all, { $0.table = PhysicalAddress(1 << 40) }))
    // The upper table, once it is enabled: T1SZ 0, TG1 reserved.
    #expect(isIllegal(all, { $0.disablesUpperWalks = false }))
    #expect(
      !isIllegal(
        all,
        {
          $0.disablesUpperWalks = false
          $0.words[21, 16] = 16
          $0.words[23, 22] = 2
        }))
  }
}

// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import IOMMU

@Suite("SMMUv3: bits of the structures")
struct SMMUv3SpecTests {
  @Test("the identification registers report the capabilities")
  func identification() {
    var unit = SMMUv3Capabilities()
    unit.outputAddressBits = 42
    let idr = unit.identification
    // S2P S1P TTF=2 COHACC HTTU=2 ASID16 MSI VMID16 CD2L TTENDIAN=2 TERM_MODEL ST_LEVEL=1
    #expect(idr[0] == 0x0c4c_309b)
    // SIDSIZE 16, SSIDSIZE 20, EVENTQS 10, CMDQS 15, ATTR_TYPES_OVR
    #expect(idr[1] == 0x09ea_0510)
    // HAD, FWB, RIL
    #expect(idr[3] == 0x504)
    // OAS 42, all granules, STALL_MAX 64
    #expect(idr[5] == 0x40_0073)
    #expect(idr[2] == 0 && idr[4] == 0)
    unit = SMMUv3Capabilities()
    unit.stage2 = false
    unit.ats = true
    unit.stallModel = .terminate
    unit.granules = [12]
    unit.rangeInvalidation = false
    #expect(unit.identification[0] & 3 == 2)
    #expect(unit.identification[0] >> 10 & 1 == 1)
    #expect(unit.identification[0] >> 24 & 3 == 1)
    #expect(unit.identification[5] == 0x10)
    #expect(unit.identification[3] == 0x104)
  }

  @Test("fields of entries, descriptors and commands have the bits of the specification")
  func fields() {
    var entry = StreamTableEntry()
    entry.isValid = true
    entry.configuration = .nested
    entry.descriptorTable = .leaves64K
    entry.descriptors = 0x1234_5678_9ac0
    entry.descriptorBits = 20
    entry.defaultSubstream = .substream0
    entry.disablesStalls = true
    entry.ats = 1
    entry.forcesWriteBack = true
    entry.mergesEvents = true
    entry.sharing = 1
    entry.vmid = 0xabcd
    entry.inputBits = 42
    entry.startLevelField = 1
    entry.granuleShift = 14
    entry.outputSizeField = 3
    entry.usesAArch64Tables = true
    entry.recordsFaults = true
    entry.table = PhysicalAddress(0x3_2109_8760)
    #expect(entry.words[0] == 0xa000_1234_5678_9aef)
    #expect(entry.words[1] == 0x0000_1000_1a08_0002)
    #expect(entry.words[2] == 0x040b_8056_0000_abcd)
    #expect(entry.words[3] == 0x3_2109_8760)

    var descriptor = ContextDescriptor()
    descriptor.inputBits = 48
    descriptor.granuleShift = 16
    descriptor.disablesUpperWalks = true
    descriptor.isValid = true
    descriptor.outputSizeField = 5
    descriptor.usesAArch64Tables = true
    descriptor.updatesAccessFlag = true
    descriptor.updatesDirtyState = true
    descriptor.recordsFaults = true
    descriptor.abortsFaults = true
    descriptor.isPrivate = true
    descriptor.asid = 0x4321
    descriptor.table = PhysicalAddress(0x8765_4321_0000)
    #expect(descriptor.words[0] == 0x4321_ee05_c000_0050)
    #expect(descriptor.words[1] == 0x8765_4321_0000)

    var command = SMMUv3Command.tlbi(.tlbiAddress, asid: 0x1111, vmid: 0x2222)
    command.setRange(
      0x1234_5000, granuleShift: 14, count: 3, scale: 7, levelHint: 2, isLeaf: true)
    #expect(command.words[0] == 0x1111_2222_0070_2012)
    #expect(command.words[1] == 0x1234_5a01)
    #expect(SMMUv3Command.invalidateStream(StreamID(rawValue: 7)).words[0] == 0x7_0000_0003)
    #expect(SMMUv3Command.invalidateAllStreams == SMMUv3Command(lower: 4, upper: 31))
    #expect(
      SMMUv3Command.invalidateContext(
        StreamID(rawValue: 7), substream: PASID(rawValue: 0xabcde), isLeaf: true)
        == SMMUv3Command(lower: 0x7_abcd_e005, upper: 1))
    #expect(
      SMMUv3Command.resume(StreamID(rawValue: 7), tag: 9, .retry)
        == SMMUv3Command(lower: 0x7_0000_1044, upper: 9))
    #expect(StreamTableDescriptor.make(table: PhysicalAddress(0x1_4000), span: 9) == 0x1_4009)
    #expect(StreamTableDescriptor.table(0x1_7fc9).rawValue == 0x1_4000)
    #expect(ContextTableDescriptor.make(table: PhysicalAddress(0x5_0000)) == 0x5_0001)
  }

  private func record(
    _ event: SMMUv3Event, pasid: UInt32? = nil, access: Permissions = .read
  ) -> InlineArray<4, UInt64> {
    SMMUv3EventRecord(
      FaultRecord(
        requester: RequesterID(rawValue: 0x1234), pasid: pasid.map { PASID(rawValue: $0) },
        iova: IOVA(0xdead_beef_0123), access: access, reason: .smmuv3(event),
        isSuppressed: false), event
    ).words
  }

  @Test("event records have the bits of the specification")
  func events() {
    var words = record(.stage1(.translation))
    #expect(words[0] == 0x1234_0000_0010)
    #expect(words[1] == 0x0208_0000_0000)
    #expect(words[2] == 0xdead_beef_0123)
    #expect(words[3] == 0)
    words = record(.stage1(.permission), pasid: 0xabcde, access: .write)
    #expect(words[0] == 0x1234_abcd_e813)
    #expect(words[1] == 0x0200_0000_0000)
    // PnU and InD
    words = record(.stage1(.permission), pasid: 1, access: .privilegedExecute)
    #expect(words[1] == 0x020e_0000_0000)
    words = record(.stage1(.permission), pasid: 1, access: .privilegedWrite)
    #expect(words[1] == 0x0202_0000_0000)
    words = record(.stage2(.access, .tableWalk, 0x8765_4321_0ff8))
    #expect(words[0] == 0x1234_0000_0012)
    #expect(words[1] == 0x0188_0000_0000)
    #expect(words[3] == 0x8765_4321_0000)
    var event = SMMUv3Event.stage2(.permission, .tableWalk, 0x5000)
    event.isTableRead = true
    #expect(record(event)[1] == 0x1188_0000_0000)
    event = SMMUv3Event.stage1(.addressSize)
    event.stallTag = 0x77
    #expect(record(event)[1] == 0x0208_8000_0077)
    #expect(record(SMMUv3Event(.badContext), pasid: 5)[0] == 0x1234_0000_580a)
    #expect(record(SMMUv3Event(.badSubstreamID), pasid: 5)[0] == 0x1234_0000_5008)
    #expect(record(SMMUv3Event(.streamDisabled), pasid: 5)[0] == 0x1234_0000_0006)
    #expect(record(SMMUv3Event(.badStreamEntry))[0] == 0x1234_0000_0004)
    words = record(.fetch(.contextFetchFailed, PhysicalAddress(0x1_2345_6780)))
    #expect(words[0] == 0x1234_0000_0009)
    #expect(words[1] == 0 && words[2] == 0)
    #expect(words[3] == 0x1_2345_6780)
  }
}

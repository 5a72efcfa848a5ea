import Synchronization
import TestSupport
import Testing

@testable import IOMMU

@Suite("AMD-Vi: device table and GCR3 tables")
struct AMDViConfigurationTests {
  struct Illegal: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let isReserved: Bool
    let change: @Sendable (inout DeviceTableEntry) -> Void

    init(
      _ name: String, reserved: Bool,
      _ change: @escaping @Sendable (inout DeviceTableEntry) -> Void
    ) {
      testDescription = name
      isReserved = reserved
      self.change = change
    }
  }

  @Test("what was read of the configuration while an invalidation came in between is not kept")
  func races() throws {
    let rig = try AMDViRig()
    rig.set(rig.hosted)
    let request = DMARequest(
      requester: AMDViRig.device, .init(), iova: IOVA(AMDViRig.base), count: 8, writes: false)
    func cached() -> [Int] {
      rig.unit.state.withLock { [$0.deviceTableEntries.count, $0.addressSpaces.count] }
    }
    _ = rig.unit.fillAddressSpace(request, .max)
    #expect(cached() == [0, 0])
    _ = rig.unit.fillAddressSpace(request, rig.unit.state.withLock { $0.generation })
    #expect(cached() == [1, 1])
  }

  @Test(
    "illegal entries",
    arguments: [
      Illegal("bit 2", reserved: true) { $0.words[0] |= 1 << 2 },
      Illegal("bit 6", reserved: true) { $0.words[0] |= 1 << 6 },
      Illegal("bit 63", reserved: true) { $0.words[0] |= 1 << 63 },
      Illegal("bit 106", reserved: true) { $0.words[1] |= 1 << 42 },
      Illegal("HAD 2", reserved: true) { $0.hostFlags = 2 },
      Illegal("Mode 7", reserved: false) { $0.hostLevels = 7 },
      Illegal("GLX 2 of 1", reserved: false) {
        $0.isGuestValid = true
        $0.guestCR3Levels = 2
      },
      Illegal("GLX 3", reserved: false) {
        $0.isGuestValid = true
        $0.guestCR3Levels = 3
      },
      Illegal("five guest levels of four", reserved: false) {
        $0.isGuestValid = true
        $0.guestPagingMode = 1
      },
      Illegal("GuestPagingMode 2", reserved: false) {
        $0.isGuestValid = true
        $0.guestPagingMode = 2
      },
    ])
  func illegal(_ kind: Illegal) throws {
    let rig = try AMDViRig()
    var entry = rig.hosted
    kind.change(&entry)
    rig.set(entry)
    #expect(
      rig.port.load(AMDViRig.base + 8).0.amdviEvent
        == .illegalEntry(at: AMDViRig.base + 8, isReserved: kind.isReserved))
    let flags: UInt64 = kind.isReserved ? 0x1080 : 0x1000
    #expect(try rig.takeEntry() == [flags << 48 | 0x0108, AMDViRig.base + 8])
    // Without V nothing of it is looked at.
    entry.isValid = false
    rig.set(entry)
    #expect(rig.port.load(rig.physical.data(0)).0 == .completed)
  }

  @Test("capabilities decide what is legal")
  func capabilities() throws {
    func isIllegal(
      _ change: (inout AMDViCapabilities) -> Void, _ entry: (inout DeviceTableEntry) -> Void
    ) throws -> Bool {
      var configuration = AMDViUnit.Configuration()
      change(&configuration.capabilities)
      let rig = try AMDViRig(configuration)
      var made = rig.hosted
      entry(&made)
      rig.set(made)
      return rig.port.load(AMDViRig.base).0.amdviEvent?.kind == .illegalDeviceTableEntry
    }
    #expect(try isIllegal({ $0.hostFlags = false }, { $0.hostFlags = 3 }))
    #expect(try isIllegal({ $0.guestIO = false }, { $0.usesGuestTableWithoutPASID = true }))
    #expect(try isIllegal({ $0.guestTranslation = false }, { $0.isGuestValid = true }))
    #expect(try isIllegal({ $0.hostLevels = 4 }, { $0.hostLevels = 5 }))
    #expect(try !isIllegal({ $0.hostLevels = 4 }, { $0.hostLevels = 4 }))
    func hasFiveLevels(_ entry: inout DeviceTableEntry) {
      entry.isGuestValid = true
      entry.guestPagingMode = 1
    }
    #expect(try isIllegal({ $0.guestLevels = 4 }, hasFiveLevels))
    #expect(try !isIllegal({ $0.guestLevels = 5 }, hasFiveLevels))
  }

  @Test("without TV a walk ends before it begins; without V it never begins")
  func validity() throws {
    let rig = try AMDViRig()
    var entry = rig.hosted
    entry.isTranslationValid = false
    rig.set(entry)
    #expect(rig.port.store(1, to: AMDViRig.base).amdviEvent?.kind == .pageFault)
    #expect(try rig.takeEntry() == [0x2020_0007_0000_0108, AMDViRig.base])
    #expect(
      rig.port.load(AMDViRig.base, pasid: PASID(rawValue: 5)).0.amdviEvent?.kind == .pageFault)
    #expect(try rig.takeEntry() == [0x2005_0005_0000_0108, AMDViRig.base])
    rig.set(DeviceTableEntry())
    #expect(rig.port.store(1, to: rig.physical.data(0)) == .completed)
    #expect(rig.physical[rig.physical.data(0)] == 1)
    #expect(rig.port.load(1 << 52).0 == .aborted)
  }

  @Test("IR and IW")
  func permissions() throws {
    let rig = try AMDViRig()
    var entry = rig.hosted
    entry.allowsWriting = false
    rig.set(entry)
    #expect(rig.port.load(AMDViRig.base).0 == .completed)
    #expect(rig.port.store(1, to: AMDViRig.base).amdviEvent?.isDenied == true)
    #expect(try rig.takeEntry() == [0x2070_0007_0000_0108, AMDViRig.base])
    entry.allowsReading = false
    rig.set(entry)
    #expect(rig.port.load(AMDViRig.base).0.amdviEvent?.isDenied == true)
    #expect(try rig.takeEntry() == [0x2050_0007_0000_0108, AMDViRig.base])
  }

  @Test("Mode 0: addresses are physical")
  func passThrough() throws {
    let rig = try AMDViRig()
    rig.set(rig.open)
    let address = rig.physical.data(1)
    #expect(rig.port.store(0x77, to: address + 0xffc) == .completed)
    #expect(rig.physical[address + 0xff8] >> 32 == 0x77)
    #expect(rig.port.load(1 << 52).0.amdviEvent == .absent(.domain(AMDViRig.domain), at: 1 << 52))
    var entry = rig.open
    entry.allowsWriting = false
    rig.set(entry)
    #expect(rig.port.store(1, to: address).amdviEvent?.isDenied == true)
  }

  @Test("a device beyond the table, and a table that is not there")
  func tables() throws {
    let rig = try AMDViRig()
    let far = DMAPort(
      requester: RequesterID(bus: 0x20, device: 0, function: 0), amdvi: rig.unit)
    #expect(far.load(0).0.amdviEvent?.kind == .illegalDeviceTableEntry)
    let nowhere = PhysicalAddress(1 << UInt64(rig.memory.addressBits) - 1 << 17)
    rig.unit.enable(.init(base: nowhere, count: 1 << 12))
    #expect(
      rig.port.load(0).0.amdviEvent
        == .deviceTableError(at: PhysicalAddress(nowhere.rawValue + 0x0108 * 32)))
  }

  // MARK: GCR3 tables

  @Test("GCR3 tables of one and two levels", arguments: [0, 1])
  func guestCR3(levels: Int) throws {
    let rig = try AMDViRig()
    let pasid = PASID(rawValue: levels == 0 ? 0x1ff : 0xfffe)
    let (top, root) = (rig.guest.take(), rig.guest.take())
    var table = top
    if levels == 1 {
      table = rig.guest.take()
      rig.guest[top + 0x7f * 8] = table | 1
    }
    rig.guest[table + (levels == 0 ? 0x1ff : 0x1fe) * 8] = root | 0x19
    rig.guest.map(root, 0x5000, to: rig.guest.data(3))
    rig.guest[rig.guest.data(3)] = 0xabcd
    var entry = rig.guided(top)
    entry.guestCR3Levels = levels
    rig.set(entry)
    let loaded = rig.port.load(0x5000, pasid: pasid)
    #expect(loaded.0 == .completed)
    #expect(loaded.1 == 0xabcd)
    // No entry for this one; none possible for that one.
    for other in [PASID(rawValue: 3), PASID(rawValue: levels == 0 ? 0x200 : 0x4_0000)] {
      #expect(
        rig.port.load(0x5000, pasid: other).0.amdviEvent == .absent(.pasid(other), at: 0x5000))
    }
  }

  @Test("GCR3 entries with reserved bits, and where nobody answers")
  func badGuestCR3() throws {
    let rig = try AMDViRig()
    let (gcr3, root) = rig.makeGuest(1, in: rig.guest)
    rig.set(rig.guided(gcr3))
    let pasid = PASID(rawValue: 1)
    let subject = AMDViEvent.AddressSpace.pasid(pasid)
    rig.guest[gcr3 + 8] = root | 1 << 1 | 1
    #expect(
      rig.port.load(0x5000, pasid: pasid).0.amdviEvent == .reserved(subject, at: 0x5000))
    #expect(try rig.takeEntry() == [0x2095_0001_0000_0108, 0x5000])
    // The host's table has nothing where the GCR3 table should be.
    rig.set(rig.guided(0x9_0000_0000))
    #expect(
      rig.port.load(0x5000, pasid: pasid).0.amdviEvent
        == .absent(.domain(AMDViRig.domain), at: 0x9_0000_0008))
    #expect(try rig.takeEntry() == [0x2000_0007_0000_0108, 0x9_0000_0008])
    // Nor is there memory.
    let nowhere = UInt64(1) << UInt64(rig.memory.addressBits) - 4096
    rig.set(rig.guided(nowhere, nested: false))
    #expect(
      rig.port.load(0x5000, pasid: pasid).0.amdviEvent
        == .pageTableError(subject, at: PhysicalAddress(nowhere + 8)))
    #expect(try rig.takeEntry() == [0x4201_0001_0000_0108, nowhere])
  }

  @Test("without GCR3TRPMode the GCR3 table is at a physical address")
  func physicalGuestCR3() throws {
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.nestedGuestCR3 = false
    let rig = try AMDViRig(configuration)
    let (gcr3, root) = rig.makeGuest(1, in: rig.guest)
    rig.guest.map(root, 0x5000, to: rig.guest.data(0))
    rig.set(rig.guided(rig.guest.place(gcr3).rawValue))
    #expect(rig.port.load(0x5000, pasid: PASID(rawValue: 1)).0 == .completed)
  }

  @Test("requests without PASID: the host's table, or with GIoV the guest table of PASID 0")
  func guestIO() throws {
    let rig = try AMDViRig()
    let (gcr3, root) = rig.makeGuest(0, in: rig.guest)
    rig.guest.map(root, AMDViRig.base, to: rig.guest.data(1))
    rig.guest[rig.guest.data(0)] = 100
    rig.guest[rig.guest.data(1)] = 101
    var entry = rig.guided(gcr3)
    rig.set(entry)
    #expect(rig.port.load(AMDViRig.base).1 == 100)
    #expect(rig.port.load(AMDViRig.base, pasid: PASID(rawValue: 0)).1 == 101)
    entry.usesGuestTableWithoutPASID = true
    rig.set(entry)
    #expect(rig.port.load(AMDViRig.base).1 == 101)
    // Addresses have no sign there.
    let high = UInt64(1) << 47
    let (flat, signed) = (high | 0x5000, ~UInt64(0) << 47 | 0x5000)
    rig.guest.map(root, flat, to: rig.guest.data(1))
    #expect(rig.port.load(flat).1 == 101)
    #expect(rig.port.load(signed, pasid: PASID(rawValue: 0)).1 == 101)
    let zero = AMDViEvent.AddressSpace.pasid(PASID(rawValue: 0))
    #expect(rig.port.load(signed).0.amdviEvent == .absent(zero, at: signed))
    #expect(
      rig.port.load(flat, pasid: PASID(rawValue: 0)).0.amdviEvent == .absent(zero, at: flat))
  }

  @Test("a PASID where there are no guest tables")
  func unknownPASID() throws {
    let rig = try AMDViRig()
    rig.set(rig.hosted)
    #expect(rig.port.load(AMDViRig.base).0 == .completed)
    let loaded = rig.port.load(AMDViRig.base, pasid: PASID(rawValue: 9)).0
    #expect(loaded.amdviEvent == .absent(.pasid(PASID(rawValue: 9)), at: AMDViRig.base))
    #expect(try rig.takeEntry() == [0x2005_0009_0000_0108, AMDViRig.base])
  }

  // MARK: What is kept out of the log

  @Test("SA: no page fault is recorded; SE: one, until the entry is invalidated")
  func suppression() throws {
    let rig = try AMDViRig()
    var entry = rig.hosted
    entry.suppressesFaults = true
    rig.set(entry)
    #expect(rig.port.load(0).0.amdviEvent?.kind == .pageFault)
    #expect(rig.unit.consumeEvents().isEmpty)
    entry.suppressesFaults = false
    entry.suppressesRepeatedFaults = true
    rig.set(entry)
    for _ in 0..<3 { #expect(rig.port.load(0).0.amdviEvent?.kind == .pageFault) }
    #expect(rig.unit.consumeEvents().count == 1)
    rig.run(.invalidateDeviceTableEntry(AMDViRig.device))
    _ = rig.port.load(0)
    #expect(rig.unit.consumeEvents().count == 1)
    // Illegal entries are none of it.
    entry.suppressesFaults = true
    entry.hostLevels = 7
    rig.set(entry)
    _ = rig.port.load(0)
    _ = rig.port.load(0)
    #expect(rig.unit.consumeEvents().count == 2)
  }

  @Test("a log that is full loses events until it is started again")
  func overflow() throws {
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.eventLogBits = 8
    let rig = try AMDViRig(configuration)
    rig.set(rig.hosted)
    for index in 0..<300 { _ = rig.port.load(UInt64(index) << 12) }
    let entries = rig.unit.consumeEvents()
    #expect(entries.count == 255)
    #expect(entries.last?.words[1] == 254 << 12)
    _ = rig.port.load(0)
    #expect(rig.unit.consumeEvents().count == 1)
  }

  // MARK: Special addresses

  @Test("interrupts and what HyperTransport had are no memory")
  func specialAddresses() throws {
    let rig = try AMDViRig()
    try rig.map(0xfee0_0000, to: rig.physical.data(0))
    rig.set(rig.hosted)
    #expect(rig.port.store(1, to: 0xfee0_0000) == .aborted)
    #expect(
      rig.port.load(0xfee0_0000).0.amdviEvent
        == .invalidRequest(.readOfInterrupts, at: 0xfee0_0000))
    #expect(try rig.takeEntry() == [0x8000_0000_0000_0108, 0xfee0_0000])
    #expect(
      rig.port.store(1, to: 0xfd_0000_0000).amdviEvent
        == .invalidRequest(.reservedInterrupt, at: 0xfd_0000_0000))
    #expect(rig.port.store(1, to: 0xfd_f800_0000) == .aborted)
    #expect(rig.port.load(0xfd_f8ff_fff8).0.amdviEvent?.kind == .invalidRequest)
    #expect(
      rig.port.load(0xfd_fc00_0000).0.amdviEvent
        == .invalidRequest(.portIO, at: 0xfd_fc00_0000))
    #expect(
      rig.port.store(1, to: 0xfd_f910_0000).amdviEvent
        == .invalidRequest(.systemManagement, at: 0xfd_f910_0000))
    #expect(rig.port.load(0xff_ffff_fff8).0 == .aborted)
    // A request that reaches into it.
    #expect(rig.port.store(1, to: 0xfedf_fffc) == .aborted)
  }

  @Test("HTRangeIgnore: addresses like others; those with PASID always are")
  func ordinaryAddresses() throws {
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.ignoresHyperTransportRange = true
    let rig = try AMDViRig(configuration)
    rig.set(rig.hosted)
    #expect(rig.port.load(0xfd_0000_0000).0.amdviEvent?.kind == .pageFault)
    let (gcr3, root) = rig.makeGuest(1, in: rig.guest)
    rig.guest.map(root, 0xfee0_0000, to: rig.guest.data(0))
    rig.set(rig.guided(gcr3))
    #expect(rig.port.store(1, to: 0xfee0_0000, pasid: PASID(rawValue: 1)) == .completed)
  }
}

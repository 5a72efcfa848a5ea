// SPDX-License-Identifier: Apache-2.0

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

  @Test("configuration that was read before an invalidation is not cached after it")
  func races() throws {
    let fixture = try AMDViFixture()
    fixture.set(fixture.hosted)
    let request = DMARequest(
      requester: AMDViFixture.device, .init(), iova: IOVA(AMDViTables.hostBase), count: 8,
      writes: false)
    func cached() -> [Int] {
      fixture.unit.state.withLock { [$0.deviceTableEntries.count, $0.addressSpaces.count] }
    }
    _ = fixture.unit.fillAddressSpace(request, .max)
    #expect(cached() == [0, 0])
    _ = fixture.unit.fillAddressSpace(request, fixture.unit.state.withLock { $0.generation })
    #expect(cached() == [1, 1])
  }

  @Test(
    "a device table entry with a reserved or illegal field is an ILLEGAL_DEV_TABLE_ENTRY event",
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
    let fixture = try AMDViFixture()
    var entry = fixture.hosted
    kind.change(&entry)
    fixture.set(entry)
    #expect(
      fixture.port.load(AMDViTables.hostBase + 8).0.amdviEvent
        == .illegalEntry(at: AMDViTables.hostBase + 8, isReserved: kind.isReserved))
    let flags: UInt64 = kind.isReserved ? 0x1080 : 0x1000
    #expect(try fixture.consumeEvent() == [flags << 48 | 0x0108, AMDViTables.hostBase + 8])
    // Without V no other field of the entry is checked.
    entry.isValid = false
    fixture.set(entry)
    #expect(fixture.port.load(fixture.physical.data(0)).0 == .completed)
  }

  @Test("a field is legal only when the unit has its capability")
  func capabilities() throws {
    func isIllegal(
      _ change: (inout AMDViCapabilities) -> Void, _ entry: (inout DeviceTableEntry) -> Void
    ) throws -> Bool {
      var configuration = AMDViUnit.Configuration()
      change(&configuration.capabilities)
      let fixture = try AMDViFixture(configuration)
      var made = fixture.hosted
      entry(&made)
      fixture.set(made)
      return fixture.port.load(AMDViTables.hostBase).0.amdviEvent?.kind == .illegalDeviceTableEntry
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

  @Test("without TV each request is a page fault, and without V addresses are physical")
  func validity() throws {
    let fixture = try AMDViFixture()
    var entry = fixture.hosted
    entry.isTranslationValid = false
    fixture.set(entry)
    #expect(fixture.port.store(1, to: AMDViTables.hostBase).amdviEvent?.kind == .pageFault)
    #expect(try fixture.consumeEvent() == [0x2020_0007_0000_0108, AMDViTables.hostBase])
    #expect(
      fixture.port.load(AMDViTables.hostBase, pasid: PASID(rawValue: 5)).0.amdviEvent?.kind
        == .pageFault)
    #expect(try fixture.consumeEvent() == [0x2005_0005_0000_0108, AMDViTables.hostBase])
    fixture.set(DeviceTableEntry())
    #expect(fixture.port.store(1, to: fixture.physical.data(0)) == .completed)
    #expect(fixture.physical[fixture.physical.data(0)] == 1)
    #expect(fixture.port.load(1 << 52).0 == .aborted)
  }

  @Test("IR and IW of the entry allow reads and writes")
  func permissions() throws {
    let fixture = try AMDViFixture()
    var entry = fixture.hosted
    entry.allowsWriting = false
    fixture.set(entry)
    #expect(fixture.port.load(AMDViTables.hostBase).0 == .completed)
    #expect(fixture.port.store(1, to: AMDViTables.hostBase).amdviEvent?.isDenied == true)
    #expect(try fixture.consumeEvent() == [0x2070_0007_0000_0108, AMDViTables.hostBase])
    entry.allowsReading = false
    fixture.set(entry)
    #expect(fixture.port.load(AMDViTables.hostBase).0.amdviEvent?.isDenied == true)
    #expect(try fixture.consumeEvent() == [0x2050_0007_0000_0108, AMDViTables.hostBase])
  }

  @Test("with Mode 0 addresses are physical")
  func passThrough() throws {
    let fixture = try AMDViFixture()
    fixture.set(fixture.open)
    let address = fixture.physical.data(1)
    #expect(fixture.port.store(0x77, to: address + 0xffc) == .completed)
    #expect(fixture.physical[address + 0xff8] >> 32 == 0x77)
    #expect(
      fixture.port.load(1 << 52).0.amdviEvent == .absent(.domain(AMDViFixture.domain), at: 1 << 52))
    var entry = fixture.open
    entry.allowsWriting = false
    fixture.set(entry)
    #expect(fixture.port.store(1, to: address).amdviEvent?.isDenied == true)
  }

  @Test(
    "a device beyond the device table is an illegal entry, and a table without memory is a DEV_TAB_HARDWARE_ERROR event"
  )
  func tables() throws {
    let fixture = try AMDViFixture()
    let far = DMAPort(
      requester: RequesterID(bus: 0x20, device: 0, function: 0), amdvi: fixture.unit)
    #expect(far.load(0).0.amdviEvent?.kind == .illegalDeviceTableEntry)
    let nowhere = PhysicalAddress(1 << UInt64(fixture.memory.addressBits) - 1 << 17)
    fixture.unit.enable(.init(base: nowhere, count: 1 << 12))
    #expect(
      fixture.port.load(0).0.amdviEvent
        == .deviceTableError(at: PhysicalAddress(nowhere.rawValue + 0x0108 * 32)))
  }

  // MARK: GCR3 tables

  @Test("a GCR3 table has one or two levels", arguments: [0, 1])
  func guestCR3(levels: Int) throws {
    let fixture = try AMDViFixture()
    let pasid = PASID(rawValue: levels == 0 ? 0x1ff : 0xfffe)
    let (top, root) = (fixture.guest.allocate(), fixture.guest.allocate())
    var table = top
    if levels == 1 {
      table = fixture.guest.allocate()
      fixture.guest[top + 0x7f * 8] = table | 1
    }
    fixture.guest[table + (levels == 0 ? 0x1ff : 0x1fe) * 8] = root | 0x19
    fixture.guest.map(root, 0x5000, to: fixture.guest.data(3))
    fixture.guest[fixture.guest.data(3)] = 0xabcd
    var entry = fixture.guided(top)
    entry.guestCR3Levels = levels
    fixture.set(entry)
    let loaded = fixture.port.load(0x5000, pasid: pasid)
    #expect(loaded.0 == .completed)
    #expect(loaded.1 == 0xabcd)
    // The first PASID has no entry. The second is beyond the table.
    for other in [PASID(rawValue: 3), PASID(rawValue: levels == 0 ? 0x200 : 0x4_0000)] {
      #expect(
        fixture.port.load(0x5000, pasid: other).0.amdviEvent == .absent(.pasid(other), at: 0x5000))
    }
  }

  @Test("a GCR3 entry with reserved bits or without memory is an event")
  func badGuestCR3() throws {
    let fixture = try AMDViFixture()
    let (gcr3, root) = fixture.makeGuest(1, in: fixture.guest)
    fixture.set(fixture.guided(gcr3))
    let pasid = PASID(rawValue: 1)
    let subject = AMDViEvent.AddressSpace.pasid(pasid)
    fixture.guest[gcr3 + 8] = root | 1 << 1 | 1
    #expect(
      fixture.port.load(0x5000, pasid: pasid).0.amdviEvent == .reserved(subject, at: 0x5000))
    #expect(try fixture.consumeEvent() == [0x2095_0001_0000_0108, 0x5000])
    // The host table has no translation for the GCR3 table.
    fixture.set(fixture.guided(0x9_0000_0000))
    #expect(
      fixture.port.load(0x5000, pasid: pasid).0.amdviEvent
        == .absent(.domain(AMDViFixture.domain), at: 0x9_0000_0008))
    #expect(try fixture.consumeEvent() == [0x2000_0007_0000_0108, 0x9_0000_0008])
    // The GCR3 table is at an address without memory.
    let nowhere = UInt64(1) << UInt64(fixture.memory.addressBits) - 4096
    fixture.set(fixture.guided(nowhere, nested: false))
    #expect(
      fixture.port.load(0x5000, pasid: pasid).0.amdviEvent
        == .pageTableError(subject, at: PhysicalAddress(nowhere + 8)))
    #expect(try fixture.consumeEvent() == [0x4201_0001_0000_0108, nowhere])
  }

  @Test("without GCR3TRPMode the GCR3 table is at a physical address")
  func physicalGuestCR3() throws {
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.nestedGuestCR3 = false
    let fixture = try AMDViFixture(configuration)
    let (gcr3, root) = fixture.makeGuest(1, in: fixture.guest)
    fixture.guest.map(root, 0x5000, to: fixture.guest.data(0))
    fixture.set(fixture.guided(fixture.guest.physicalAddress(of: gcr3).rawValue))
    #expect(fixture.port.load(0x5000, pasid: PASID(rawValue: 1)).0 == .completed)
  }

  @Test("requests without PASID use the host table, or with GIoV the guest table of PASID 0")
  func guestIO() throws {
    let fixture = try AMDViFixture()
    let (gcr3, root) = fixture.makeGuest(0, in: fixture.guest)
    fixture.guest.map(root, AMDViTables.hostBase, to: fixture.guest.data(1))
    fixture.guest[fixture.guest.data(0)] = 100
    fixture.guest[fixture.guest.data(1)] = 101
    var entry = fixture.guided(gcr3)
    fixture.set(entry)
    #expect(fixture.port.load(AMDViTables.hostBase).1 == 100)
    #expect(fixture.port.load(AMDViTables.hostBase, pasid: PASID(rawValue: 0)).1 == 101)
    entry.usesGuestTableWithoutPASID = true
    fixture.set(entry)
    #expect(fixture.port.load(AMDViTables.hostBase).1 == 101)
    // Addresses of requests without PASID are not sign-extended.
    let high = UInt64(1) << 47
    let (flat, signed) = (high | 0x5000, ~UInt64(0) << 47 | 0x5000)
    fixture.guest.map(root, flat, to: fixture.guest.data(1))
    #expect(fixture.port.load(flat).1 == 101)
    #expect(fixture.port.load(signed, pasid: PASID(rawValue: 0)).1 == 101)
    let zero = AMDViEvent.AddressSpace.pasid(PASID(rawValue: 0))
    #expect(fixture.port.load(signed).0.amdviEvent == .absent(zero, at: signed))
    #expect(
      fixture.port.load(flat, pasid: PASID(rawValue: 0)).0.amdviEvent == .absent(zero, at: flat))
  }

  @Test("a request with PASID faults when the entry has no guest tables")
  func unknownPASID() throws {
    let fixture = try AMDViFixture()
    fixture.set(fixture.hosted)
    #expect(fixture.port.load(AMDViTables.hostBase).0 == .completed)
    let loaded = fixture.port.load(AMDViTables.hostBase, pasid: PASID(rawValue: 9)).0
    #expect(loaded.amdviEvent == .absent(.pasid(PASID(rawValue: 9)), at: AMDViTables.hostBase))
    #expect(try fixture.consumeEvent() == [0x2005_0009_0000_0108, AMDViTables.hostBase])
  }

  // MARK: Suppressed and lost events

  @Test("SA suppresses page faults, and SE all but the first until the entry is invalidated")
  func suppression() throws {
    let fixture = try AMDViFixture()
    var entry = fixture.hosted
    entry.suppressesFaults = true
    fixture.set(entry)
    #expect(fixture.port.load(0).0.amdviEvent?.kind == .pageFault)
    #expect(fixture.unit.consumeEvents().isEmpty)
    entry.suppressesFaults = false
    entry.suppressesRepeatedFaults = true
    fixture.set(entry)
    for _ in 0..<3 { #expect(fixture.port.load(0).0.amdviEvent?.kind == .pageFault) }
    #expect(fixture.unit.consumeEvents().count == 1)
    fixture.run(.invalidateDeviceTableEntry(AMDViFixture.device))
    _ = fixture.port.load(0)
    #expect(fixture.unit.consumeEvents().count == 1)
    // SA and SE do not suppress events of illegal entries.
    entry.suppressesFaults = true
    entry.hostLevels = 7
    fixture.set(entry)
    _ = fixture.port.load(0)
    _ = fixture.port.load(0)
    #expect(fixture.unit.consumeEvents().count == 2)
  }

  @Test("a full event log loses events until it is restarted")
  func overflow() throws {
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.eventLogBits = 8
    let fixture = try AMDViFixture(configuration)
    fixture.set(fixture.hosted)
    for index in 0..<300 { _ = fixture.port.load(UInt64(index) << 12) }
    let entries = fixture.unit.consumeEvents()
    #expect(entries.count == 255)
    #expect(entries.last?.words[1] == 254 << 12)
    _ = fixture.port.load(0)
    #expect(fixture.unit.consumeEvents().count == 1)
  }

  // MARK: Special addresses

  @Test("the interrupt range and the HyperTransport ranges are not translated")
  func specialAddresses() throws {
    let fixture = try AMDViFixture()
    try fixture.map(0xfee0_0000, to: fixture.physical.data(0))
    fixture.set(fixture.hosted)
    #expect(fixture.port.store(1, to: 0xfee0_0000) == .aborted)
    #expect(
      fixture.port.load(0xfee0_0000).0.amdviEvent
        == .invalidRequest(.readOfInterrupts, at: 0xfee0_0000))
    #expect(try fixture.consumeEvent() == [0x8000_0000_0000_0108, 0xfee0_0000])
    #expect(
      fixture.port.store(1, to: 0xfd_0000_0000).amdviEvent
        == .invalidRequest(.reservedInterrupt, at: 0xfd_0000_0000))
    #expect(fixture.port.store(1, to: 0xfd_f800_0000) == .aborted)
    #expect(fixture.port.load(0xfd_f8ff_fff8).0.amdviEvent?.kind == .invalidRequest)
    #expect(
      fixture.port.load(0xfd_fc00_0000).0.amdviEvent
        == .invalidRequest(.portIO, at: 0xfd_fc00_0000))
    #expect(
      fixture.port.store(1, to: 0xfd_f910_0000).amdviEvent
        == .invalidRequest(.systemManagement, at: 0xfd_f910_0000))
    #expect(fixture.port.load(0xff_ffff_fff8).0 == .aborted)
    // A request that reaches into the interrupt range.
    #expect(fixture.port.store(1, to: 0xfedf_fffc) == .aborted)
  }

  @Test("with HTRangeIgnore, and for requests with PASID, the HyperTransport ranges are translated")
  func ordinaryAddresses() throws {
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.ignoresHyperTransportRange = true
    let fixture = try AMDViFixture(configuration)
    fixture.set(fixture.hosted)
    #expect(fixture.port.load(0xfd_0000_0000).0.amdviEvent?.kind == .pageFault)
    let (gcr3, root) = fixture.makeGuest(1, in: fixture.guest)
    fixture.guest.map(root, 0xfee0_0000, to: fixture.guest.data(0))
    fixture.set(fixture.guided(gcr3))
    #expect(fixture.port.store(1, to: 0xfee0_0000, pasid: PASID(rawValue: 1)) == .completed)
  }
}

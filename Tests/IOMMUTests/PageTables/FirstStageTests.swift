// SPDX-License-Identifier: Apache-2.0

import Synchronization
import TestSupport
import Testing

@testable import IOMMU

/// Faults of first-stage and nested translation of VT-d, and their fault reasons.
@Suite struct FirstStageTests {
  let memory: PhysicalMemory
  let rules = VTdFirstStage.rules(addressBits: 40, has1GPages: true)

  init() throws { memory = try PhysicalMemory(.test) }

  /// A first-stage table that maps a page of 4 KiB, and the addresses of its entries from the top.
  private struct Table {
    let root: TableRoot
    let places: [PhysicalAddress]
    let page: PhysicalAddress
  }

  private func table(
    _ address: UInt64, levels: Int = 4, options: WalkOptions = [.writeProtect],
    forbidden: UInt64 = 0
  ) throws -> Table {
    let top = try memory.allocateTable()
    var places: [PhysicalAddress] = []
    var table = top
    for level in stride(from: levels - 1, through: 0, by: -1) {
      let place = VTdFirstStage.entryAddress(address, level: level, table: table)
      table = try memory.allocateTable()
      memory.storeEntry(table.rawValue | 7, at: place)
      places.append(place)
    }
    return Table(
      root: TableRoot(
        address: top, topLevel: levels - 1, updatesFlags: true, options: options,
        forbidden: forbidden), places: places, page: table)
  }

  private func walk(
    _ address: UInt64, _ table: Table, _ access: Permissions = .read
  ) -> WalkOutcome {
    var tables = GuestTableMemory(memory)
    return RadixWalker<VTdFirstStage>.walk(
      address, table.root, access: access, rules: rules, memory: &tables)
  }

  private func reason(
    _ address: UInt64, _ table: Table, _ access: Permissions = .read
  ) -> VTdFaultReason? {
    guard case .fault(let fault) = walk(address, table, access) else { return nil }
    return VTdFaultReason(firstStage: fault, topLevel: table.root.topLevel, access: access)
  }

  private func set(_ bits: UInt64, clear: UInt64 = 0, _ place: PhysicalAddress) {
    memory.storeEntry((memory.word(at: place) ?? 0) & ~clear | bits, at: place)
  }

  @Test("a walk returns the page and sets A in each entry, and D for a write", arguments: [4, 5])
  func pagesAreFoundAndMarked(levels: Int) throws {
    let address: UInt64 = 0x12_3456_7000
    let table = try table(address, levels: levels)
    guard case .leaf(let read) = walk(address, table) else { return #expect(Bool(false)) }
    #expect(read.physical == table.page && read.shift == 12)
    // The dirty flag is clear, so the translation does not allow writes.
    #expect(read.permissions == [.read, .execute, .privilegedRead, .privilegedExecute])
    for place in table.places { #expect((memory.word(at: place) ?? 0) & 0x460 == 0x20) }
    guard case .leaf(let write) = walk(address, table, .write) else { return #expect(Bool(false)) }
    #expect(write.permissions.isSuperset(of: .anyWrite))
    for place in table.places.dropLast() {
      #expect((memory.word(at: place) ?? 0) & 0x460 == 0x20)
    }
    #expect((memory.word(at: table.places[levels - 1]) ?? 0) & 0x460 == 0x60)
  }

  @Test("EA is set when the extended accessed option is on")
  func extendedAccessedIsKeptWhenAsked() throws {
    let table = try table(0, options: [.extendedAccessed])
    _ = walk(0, table)
    for place in table.places { #expect((memory.word(at: place) ?? 0) & 0x460 == 0x420) }
  }

  @Test("PS ends the walk at 2 MiB and 1 GiB")
  func largePages() throws {
    let table = try table(0)
    // PAT of a large page is an address bit of a small page.
    memory.storeEntry(0x4000_1087, at: table.places[1])
    guard case .leaf(let giant) = walk(0, table) else { return #expect(Bool(false)) }
    #expect(giant.physical.rawValue == 0x4000_0000 && giant.shift == 30)
    memory.storeEntry(table.places[2].rawValue & ~0xfff | 7, at: table.places[1])
    memory.storeEntry(0x4020_1087, at: table.places[2])
    guard case .leaf(let large) = walk(0, table) else { return #expect(Bool(false)) }
    #expect(large.physical.rawValue == 0x4020_0000 && large.shift == 21)
  }

  /// VT-d §3.6: bits 63 to N - 1 are equal.
  @Test("only canonical addresses have an input")
  func canonicalAddresses() {
    #expect(VTdFirstStage.input(0x7fff_ffff_ffff, topLevel: 3) == 0x7fff_ffff_ffff)
    #expect(VTdFirstStage.input(0xffff_8000_0000_0000, topLevel: 3) == 0x8000_0000_0000)
    #expect(VTdFirstStage.input(0x8000_0000_0000, topLevel: 3) == nil)
    #expect(VTdFirstStage.input(0x7fff_8000_0000_0000, topLevel: 3) == nil)
    #expect(VTdFirstStage.input(0x8000_0000_0000, topLevel: 4) == 0x8000_0000_0000)
    #expect(VTdFirstStage.input(0xff00_0000_0000_0000, topLevel: 4) == 0x100_0000_0000_0000)
    #expect(VTdFirstStage.input(0x100_0000_0000_0000, topLevel: 4) == nil)
  }

  @Test("an entry without P ends the walk at its level")
  func presence() throws {
    for index in 0..<4 {
      let table = try table(0)
      set(0, clear: 1, table.places[index])
      #expect(reason(0, table) == .firstStageAbsent)
    }
  }

  @Test("a reserved bit in an entry is a fault, and an ignored bit is not")
  func reservedBits() throws {
    // Address bits above the host address width, PS at a level without pages, a misaligned page,
    // and XD when it is reserved.
    for (index, bits) in [
      (0, 1 << 40), (3, 1 << 51), (0, 1 << 7), (1, 1 << 7 | 1 << 13), (1, 1 << 7 | 1 << 29),
      (2, 1 << 7 | 1 << 20),
    ] as [(Int, UInt64)] {
      let table = try table(0)
      set(bits, clear: bits & 0x80 != 0 && index > 0 ? 0x3fff_f000 & ~bits : 0, table.places[index])
      #expect(reason(0, table) == .firstStageReserved)
    }
    let table = try table(0, forbidden: 1 << 63)
    set(1 << 63, table.places[1])
    #expect(reason(0, table) == .firstStageReserved)
    // Bits [62:52] and [11:8] are ignored.
    let ignored = try self.table(0)
    for place in ignored.places { set(0x7ff << 52 | 0xf00, place) }
    #expect(reason(0, ignored) == nil)
  }

  @Test("R/W, U/S, XD and the options WPE, NXE and SMEP decide the permissions")
  func rights() throws {
    let table = try table(0, options: [.writeProtect, .executeDisable])
    set(0, clear: 4, table.places[1])
    #expect(reason(0, table, .read) == .privilegeDenied)
    #expect(reason(0, table, .write) == .privilegeDenied)
    #expect(reason(0, table, .privilegedWrite) == nil)
    set(4, table.places[1])
    set(0, clear: 2, table.places[2])
    #expect(reason(0, table, .write) == .writeDenied)
    #expect(reason(0, table, .privilegedWrite) == .writeDenied)
    set(1 << 63, table.places[0])
    #expect(reason(0, table, .execute) == .executeDenied)
    #expect(reason(0, table, .privilegedExecute) == .executeDenied)
    #expect(reason(0, table, .read) == nil)
    // Without WPE a privileged request writes read-only pages. Without NXE XD is ignored. SMEP
    // forbids privileged execution of user pages.
    let lax = Table(
      root: TableRoot(
        address: table.root.address, topLevel: 3, updatesFlags: true,
        options: [.executeProtect]), places: table.places, page: table.page)
    #expect(reason(0, lax, .privilegedWrite) == nil)
    #expect(reason(0, lax, .write) == .writeDenied)
    #expect(reason(0, lax, .execute) == nil)
    #expect(reason(0, lax, .privilegedExecute) == .executeDenied)
  }

  @Test("a table at an address without memory is a fault of its level")
  func inaccessibleTables() throws {
    let table = try table(0)
    let nowhere = Table(
      root: TableRoot(address: PhysicalAddress(1 << 39), topLevel: 3, updatesFlags: true),
      places: [], page: table.page)
    #expect(reason(0, nowhere) == .firstStagePointerInvalid)
    memory.storeEntry(1 << 39 | 7, at: table.places[1])
    #expect(reason(0, table) == .firstStageInaccessible)
  }

  @Test("a walk through a table that points to itself ends at the last level")
  func loopsEnd() throws {
    let table = try table(0)
    for index in 0..<512 as Range<UInt64> {
      memory.storeEntry(
        table.root.address.rawValue | 7,
        at: PhysicalAddress(table.root.address.rawValue + index * 8))
    }
    guard case .leaf(let page) = walk(0x1234_5678_9000, table) else {
      return #expect(Bool(false))
    }
    #expect(page.physical == table.root.address && page.shift == 12)
  }

  /// Table memory in which software changes an entry each time before hardware sets its flags.
  private struct Restless: TableMemory {
    var window: FrameWindow
    let place: PhysicalAddress
    var changes: [UInt64]
    var updates = 0

    mutating func load(_ address: PhysicalAddress) -> UInt64? { window.load(address) }

    mutating func update(
      _ address: PhysicalAddress, from old: UInt64, to new: UInt64
    ) -> EntryUpdate {
      if address == place, let next = changes.popLast() { window.store(next, at: address) }
      updates += 1
      return window.update(address, from: old, to: new)
    }
  }

  @Test("a walk reads an entry again that changes before its flags are set")
  func entryThatChanges() throws {
    let table = try table(0)
    let leaf = table.places[3]
    let other = try memory.allocateTable()
    // The entry is unmapped before its flags are set: the page is absent and no flag is set.
    var tables = Restless(window: memory.window, place: leaf, changes: [0])
    let gone = RadixWalker<VTdFirstStage>.walk(
      0, table.root, access: .read, rules: rules, memory: &tables)
    #expect(gone.text(0) == "absent 0")
    #expect(memory.word(at: leaf) == 0)
    // The entry points to another page: the new entry is used.
    memory.storeEntry(table.page.rawValue | 7, at: leaf)
    tables.changes = [other.rawValue | 5]
    let moved = RadixWalker<VTdFirstStage>.walk(
      0, table.root, access: .read, rules: rules, memory: &tables)
    guard case .leaf(let page) = moved else { return #expect(Bool(false)) }
    #expect(page.physical == other)
    #expect(memory.word(at: leaf) == other.rawValue | 0x25)
    // An upper entry loses a permission and gets it back during the walk: the last value is used.
    memory.storeEntry(table.places[3].rawValue & ~0xfff | 5, at: table.places[2])
    memory.storeEntry(table.page.rawValue | 7, at: leaf)
    var generous = Restless(
      window: memory.window, place: table.places[2],
      changes: [table.places[3].rawValue & ~0xfff | 7])
    let written = RadixWalker<VTdFirstStage>.walk(
      0, table.root, access: .write, rules: rules, memory: &generous)
    guard case .leaf = written else { return #expect(Bool(false)) }
  }

  @Test("an entry that changes at each attempt to set its flags is a fault")
  func entryThatAlwaysChanges() throws {
    let table = try table(0)
    let changes = (0..<1000).map { table.page.rawValue | 7 | $0 << 52 }
    var tables = Restless(
      window: memory.window, place: table.places[3], changes: changes as [UInt64])
    let outcome = RadixWalker<VTdFirstStage>.walk(
      0, table.root, access: .read, rules: rules, memory: &tables)
    #expect(outcome.text(0) == "unwritable 0")
    #expect(tables.updates < 200)
    #expect(
      VTdFaultReason(firstStage: .unwritable(level: 0), topLevel: 3, access: .read)
        == .firstStageFlagsFailed)
  }

  /// VT-d §7.1.3.
  @Test("a nested fault has the reason of its stage and of the use of the output")
  func nestedFaultReasons() {
    func reason(_ fault: NestedFault, _ access: Permissions = .read) -> UInt8 {
      VTdFaultReason(nested: fault, firstTop: 3, secondTop: 3, access: access).rawValue
    }
    let denied = WalkFault.denied(level: 0, allowed: .read)
    #expect(reason(.first(.absent(level: 1))) == 0x71)
    #expect(reason(.first(denied), .write) == 0x85)
    #expect(reason(.second(.inputTooWide, address: 0, use: .entry(level: 1))) == 0x74)
    #expect(reason(.second(.inputTooWide, address: 0, use: .data)) == 0x84)
    #expect(reason(.second(.absent(level: 2), address: 0, use: .entry(level: 3))) == 0x75)
    #expect(reason(.second(.absent(level: 2), address: 0, use: .entry(level: 2))) == 0x76)
    #expect(reason(.second(denied, address: 0, use: .flags(level: 3))) == 0x77)
    #expect(reason(.second(denied, address: 0, use: .data), .write) == 0x85)
    #expect(reason(.second(denied, address: 0, use: .data), .privilegedWrite) == 0x85)
    #expect(reason(.second(.absent(level: 0), address: 0, use: .data)) == 0x86)
    #expect(reason(.second(.inaccessible(level: 2), address: 0, use: .data)) == 0x78)
    #expect(reason(.second(.inaccessible(level: 3), address: 0, use: .entry(level: 0))) == 0x7b)
    #expect(reason(.second(.reserved(level: 1), address: 0, use: .entry(level: 0))) == 0x7a)
  }
}

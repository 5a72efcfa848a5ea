// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import IOMMU

/// Start levels, ranges, attributes and faults of VMSAv8 tables.
@Suite struct VMSAv8Tests {
  let memory: PhysicalMemory

  init() throws { memory = try PhysicalMemory(.test) }

  private static let root = PhysicalAddress(0x1_0000_0fff)

  private func stage1(
    _ granule: VMSAv8Table.Granule, _ size: Int, minimum: Int = 16, small: Bool = false
  ) -> VMSAv8Table? {
    VMSAv8Table(
      stage1: Self.root, granule: granule, inputSize: size, outputBits: 48,
      minimumSize: minimum, hasSmallTables: small)
  }

  /// DDI 0487 Tables D8-8 to D8-10.
  @Test("the granule and the input size decide where stage 1 begins")
  func startLevelsOfStage1() {
    let expected: [(VMSAv8Table.Granule, Int, Int)] = [
      (.size4K, 16, 0), (.size4K, 24, 0), (.size4K, 25, 1), (.size4K, 33, 1), (.size4K, 34, 2),
      (.size4K, 39, 2), (.size16K, 16, 0), (.size16K, 17, 1), (.size16K, 28, 2),
      (.size16K, 38, 2), (.size16K, 39, 3), (.size64K, 16, 1), (.size64K, 21, 1), (.size64K, 22, 2),
      (.size64K, 34, 2), (.size64K, 35, 3), (.size64K, 39, 3),
    ]
    for (granule, size, level) in expected {
      #expect(
        stage1(granule, size).map { VMSAv8.level($0.root.topLevel) } == level,
        "\(granule), \(size)")
    }
    #expect(stage1(.size4K, 15) == nil)
    #expect(stage1(.size4K, 40) == nil)
    #expect(stage1(.size4K, 12, minimum: 12).map { VMSAv8.level($0.root.topLevel) } == -1)
    #expect(stage1(.size64K, 12, minimum: 12).map { VMSAv8.level($0.root.topLevel) } == 1)
    #expect(stage1(.size4K, 48, small: true).map { VMSAv8.level($0.root.topLevel) } == 3)
    #expect(stage1(.size64K, 48, small: true) == nil)
    #expect(stage1(.size64K, 47, small: true) != nil)
    // Address bits below the alignment of the top table are ignored.
    #expect(stage1(.size4K, 16)?.root.address.rawValue == 0x1_0000_0000)
    #expect(stage1(.size4K, 24)?.root.address.rawValue == 0x1_0000_0fc0)
  }

  @Test("stage 2 concatenates at most 16 tables at its start level")
  func startLevelsOfStage2() {
    func exists(_ granule: VMSAv8Table.Granule, _ size: Int, _ level: Int) -> Bool {
      VMSAv8Table(
        stage2: Self.root, granule: granule, inputSize: size, startLevel: level, outputBits: 48)
        != nil
    }
    #expect(exists(.size4K, 16, 0))
    #expect(!exists(.size4K, 16, 1))
    #expect(exists(.size4K, 21, 1))
    #expect(!exists(.size4K, 20, 1))
    #expect(exists(.size4K, 33, 1))
    #expect(!exists(.size4K, 34, 1))
    #expect(exists(.size4K, 24, 0))
    #expect(!exists(.size4K, 25, 0))
    #expect(!exists(.size4K, 39, 4))
    #expect(!exists(.size4K, 16, -2))
    #expect(exists(.size64K, 22 - 4, 2))
    #expect(!exists(.size64K, 22 - 5, 2))
  }

  @Test(
    "bit 55 selects the table, and the bits above the input size must be copies of it unless the top byte is ignored"
  )
  func ranges() {
    let table = stage1(.size4K, 25)
    var regime = VMSAv8Regime(lower: table, upper: table)
    #expect(regime.table(for: 0x7f_ffff_ffff)?.input == 0x7f_ffff_ffff)
    #expect(regime.table(for: 0x80_0000_0000) == nil)
    #expect(regime.table(for: 0xffff_ff80_0000_1000)?.input == 0x1000)
    #expect(regime.table(for: 0xffff_ff00_0000_0000) == nil)
    #expect(regime.table(for: 0xab00_0000_0000_1000) == nil)
    #expect(regime.table(for: 0xabff_ff80_0000_1000) == nil)
    regime.ignoresTopByteOfLower = true
    #expect(regime.table(for: 0xab00_0000_0000_1000)?.input == 0x1000)
    #expect(regime.table(for: 0xabff_ff80_0000_1000) == nil)
    regime.ignoresTopByteOfUpper = true
    #expect(regime.table(for: 0xabff_ff80_0000_1000)?.input == 0x1000)
    #expect(regime.table(for: 0xabff_ff00_0000_1000) == nil)
    regime.upper = nil
    #expect(regime.table(for: 0xffff_ff80_0000_1000) == nil)
  }

  /// Returns the outcome of a walk through a table of one level whose first descriptor is `entry`.
  private func outcome(
    _ entry: UInt64, _ access: Permissions = .read, options: WalkOptions = [],
    outputBits: Int = 48, stage2: Bool = false, address: UInt64 = 0
  ) throws -> (text: String, entry: UInt64?) {
    let root = try memory.allocateTable()
    defer { memory.freeTable(root) }
    let place = VMSAv8Stage1<Granule4K>.entryAddress(address, level: 1, table: root)
    memory.storeEntry(entry, at: place)
    var tables = memory.window
    let table =
      stage2
      ? VMSAv8Table(
        stage2: root, granule: .size4K, inputSize: 34, startLevel: 2, outputBits: outputBits,
        options: options)
      : VMSAv8Table(
        stage1: root, granule: .size4K, inputSize: 34, outputBits: outputBits, options: options)
    let known = try #require(table)
    let outcome =
      stage2
      ? VMSAv8.walk(stage2: known, address, access: access, memory: &tables)
      : VMSAv8.walk(stage1: known, address, access: access, memory: &tables)
    return (outcome.text(address), memory.word(at: place))
  }

  private static let block: UInt64 = 0x4000_0000 | 1 << 10 | 1 << 6 | 1

  @Test("each fault of stage 1 has its level and its permissions")
  func faultsOfStage1() throws {
    #expect(try outcome(Self.block).text == "40000000 of 2^21 RWrwx")
    #expect(try outcome(Self.block & ~1).text == "absent 1")
    #expect(try outcome(Self.block | 1 << 40, outputBits: 40).text == "too wide 1")
    #expect(try outcome(Self.block | 1 << 39, outputBits: 40).text.hasPrefix("8040000000"))
    #expect(try outcome(Self.block & ~(1 << 10)).text == "unused 1")
    // AF is checked before the permissions.
    #expect(try outcome(0x4000_0001, .write).text == "unused 1")
    #expect(try outcome(Self.block & ~(1 << 6)).text == "denied 1 RWXx")
    #expect(try outcome(Self.block | 1 << 7, .write).text == "denied 1 RXrx")
    #expect(try outcome(Self.block | 1 << 54, .execute).text == "denied 1 RWrw")
    #expect(try outcome(Self.block | 1 << 7 | 1 << 53, .privilegedExecute).text == "denied 1 Rrx")
    #expect(
      try outcome(Self.block, .execute, options: .writableIsNotExecutable).text
        == "denied 1 RWrw")
    #expect(try outcome(1 << 39 | 3).text == "inaccessible 0")
  }

  @Test("each fault of stage 2 has its level and its permissions")
  func faultsOfStage2() throws {
    let block = Self.block | 1 << 7
    #expect(try outcome(block, stage2: true).text == "40000000 of 2^21 RWXrwx")
    #expect(try outcome(block, stage2: true, address: 1 << 40).text == "beyond")
    #expect(try outcome(Self.block, .write, stage2: true).text == "denied 1 RXrx")
    #expect(try outcome(block & ~(1 << 6), stage2: true).text == "denied 1 WXwx")
    for (never, text) in [(1, "RWrwx"), (2, "RWrw"), (3, "RWXrw")] as [(UInt64, String)] {
      #expect(try outcome(block | never << 53, stage2: true).text == "40000000 of 2^21 \(text)")
    }
  }

  @Test("hardware sets AF, clears AP[2] and sets S2AP[1] only as HA, HD and DBM allow")
  func hardwareUpdates() throws {
    let clean = Self.block & ~(1 << 10) | 1 << 7 | 1 << 51
    let both: WalkOptions = [.setsAccessFlag, .setsDirtyState]
    let read = try outcome(clean, options: both)
    #expect(read.text == "40000000 of 2^21 Rrx")
    #expect(read.entry == clean | 1 << 10)
    let write = try outcome(clean, .write, options: both)
    #expect(write.text == "40000000 of 2^21 RWrwx")
    #expect(write.entry == (clean | 1 << 10) & ~(1 << 7))
    let onlyAF = try outcome(clean, .write, options: .setsAccessFlag)
    #expect(onlyAF.text.hasPrefix("denied 1"))
    #expect(onlyAF.entry == clean)
    let second = try outcome(clean & ~(1 << 7), .write, options: both, stage2: true)
    #expect(second.text == "40000000 of 2^21 RWXrwx")
    #expect(second.entry == clean | 1 << 10)
    #expect(try outcome(clean, options: .ignoresAccessFlag).entry == clean)
  }

  @Test(
    "the contiguous hint joins 16 blocks of 2 MiB, and a descriptor in the wrong place is one block"
  )
  func contiguousHint() throws {
    let hinted = Self.block | 1 << 52
    #expect(try outcome(hinted).text == "40000000 of 2^25 RWrwx")
    #expect(try outcome(hinted | 3 << 21, address: 3 << 21).text == "40600000 of 2^25 RWrwx")
    #expect(try outcome(hinted | 2 << 21, address: 3 << 21).text == "40400000 of 2^21 RWrwx")
  }

  @Test("bits [9:8] hold address bits [51:50] with DS, and bits [15:12] hold [51:48] with LPA")
  func wideAddresses() {
    let root = TableRoot(
      address: Self.root, topLevel: 3, updatesFlags: false, options: .wideAddresses)
    #expect(
      VMSAv8Stage1<Granule4K>.output(2 << 48 | 0x1000 | 3 << 8 | 3, root: root)
        == 0xe_0000_0000_1000)
    #expect(
      VMSAv8Stage1<Granule64K>.output(0x8000_0000_0000 | 5 << 12 | 3, root: root)
        == 0x5_8000_0000_0000)
    // A block of 512 GiB exists only with wide addresses.
    #expect(VMSAv8Stage1<Granule4K>.classify(1, level: 3) == .empty)
    #expect(VMSAv8Stage1<Granule4K>.classify(1, level: 3, root: root) == .leaf)
  }

  @Test(
    "a leaf that the kernel's driver builds reads back as it was built", arguments: [0, 1, 2],
    [1, 3] as [UInt8])
  func leavesRoundTrip(level: Int, raw: UInt8) {
    let at = PhysicalAddress(0x40_0000_0000)
    let wanted = Permissions(rawValue: raw)
    let root = TableRoot(address: at, topLevel: 3, updatesFlags: false)
    func check<Format: VMSAv8Format>(_: Format.Type) {
      let leaf = Format.makeLeaf(at: at, level: level, permissions: wanted, snoops: true)
      #expect(Format.classify(leaf, level: level) == .leaf)
      #expect(Format.address(leaf) == at)
      let allowed = Format.permissions(leaf, grant: .max, root: root)
      #expect(allowed.intersection([.read, .write]) == wanted)
      #expect(!Format.isAccessFlagFault(leaf, root: root))
    }
    check(VMSAv8Stage1<Granule4K>.self)
    check(VMSAv8Stage2<Granule4K>.self)
    let table = VMSAv8Stage1<Granule4K>.makeTable(at: at, level: 2)
    #expect(VMSAv8Stage1<Granule4K>.classify(table, level: 2) == .table)
  }

  @Test("a built leaf reports and clears its dirty state")
  func dirtyStateOfBuiltLeaves() {
    let at = PhysicalAddress(0x40_0000_0000)
    func check<Format: VMSAv8Format>(_: Format.Type, dbm: UInt64) {
      let leaf =
        Format.makeLeaf(at: at, level: 0, permissions: [.read, .write], snoops: true) | dbm
      #expect(Format.isDirty(leaf))
      #expect(!Format.isDirty(Format.cleaned(leaf)))
      #expect(Format.dirtied(Format.cleaned(leaf)) == leaf)
    }
    check(VMSAv8Stage1<Granule4K>.self, dbm: 0)
    check(VMSAv8Stage2<Granule4K>.self, dbm: 1 << 51)
  }
}

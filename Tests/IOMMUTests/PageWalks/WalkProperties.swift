import Foundation
import Testing

@testable import IOMMU

// The walker against the reference, in random worlds. A failure names its seed; worlds are made from
// nothing else. An everyday run has a few dozen for each format; IOMMUFD_SIM_WALK_WORLDS says
// otherwise (`scripts/test walks`: millions of translations).

/// A machine in which worlds are made.
struct WalkMachine {
  static let translationsPerWorld = 250

  let memory: PhysicalMemory
  private let pool: PhysicalAddress
  private let unit: UInt64
  private let worlds: UInt64

  /// - Parameters:
  ///   - unit: log2 of the largest table.
  ///   - worlds: how many there are in an everyday run.
  init(unit: UInt64, worlds: UInt64) throws {
    self.unit = unit
    let asked = ProcessInfo.processInfo.environment["IOMMUFD_SIM_WALK_WORLDS"]
    self.worlds = asked.flatMap(UInt64.init) ?? worlds
    memory = try PhysicalMemory(.test)
    pool = try memory.allocateTable(
      sizeShift: Int(unit) + WalkWorld.frameCount.trailingZeroBitCount)
  }

  /// Worlds from 1 on; the first that disagrees ends the test, for the others say the same.
  /// - Parameter outcomes: words that some verdict of an everyday run must contain, or the worlds
  ///   are not what they are meant to be. That one translation in 20 succeeds goes without saying.
  func explore(
    _ name: String, outcomes: [String], _ body: (inout WalkWorld) -> String?
  ) {
    var (pages, total) = (0, 0)
    var seen: Set<String> = []
    for seed in 1...worlds {
      var world = WalkWorld(seed: seed, memory: memory, pool: pool, unit: unit)
      if let difference = body(&world) ?? world.difference() {
        Issue.record("\(name), seed \(seed): \(difference)")
        return
      }
      (pages, total) = (pages + world.pages, total + Self.translationsPerWorld)
      seen.formUnion(outcomes.filter { word in world.verdicts.contains { $0.contains(word) } })
    }
    #expect(pages > total / 20, "\(name): \(pages) pages in \(total) translations")
    #expect(seen == Set(outcomes), "\(name)")
  }
}

extension WalkWorld {
  /// Translates with both. Nil: they agree.
  mutating func compare(
    _ address: UInt64, _ access: ReferenceAccess, ours: String,
    _ reference: () throws -> ReferencePage
  ) -> String? {
    let expected = verdict(reference)
    note(expected)
    guard ours != expected else { return nil }
    return "\(access) of \(String(address, radix: 16)): \(ours), not \(expected)"
  }
}

@Suite struct WalkProperties {
  private let machine: WalkMachine
  private var memory: PhysicalMemory { machine.memory }

  init() throws { machine = try WalkMachine(unit: 12, worlds: 60) }

  /// An address whose indexes are in use in the pool, mostly.
  private func input(_ world: inout WalkWorld, levels: Int, canonical: Bool) -> UInt64 {
    var address = world.frame() | world.random.next() & 0xfff
    for level in 1..<levels where !world.rarely(3) {
      let low = UInt64(12 + 9 * level)
      let index: UInt64 = world.rarely(8) ? 511 : world.random.next() % 3
      address = address & ~(511 << low) | index << low
    }
    if canonical && bit(11 + 9 * levels, of: address) {
      address |= ~0 << UInt64(12 + 9 * levels)
    }
    if world.rarely(50) { address ^= 1 << (40 + world.random.next() % 24) }
    return address
  }

  private func x86Entry(
    _ world: inout WalkWorld, _ frames: Range<UInt64> = 0..<WalkWorld.frameCount
  ) -> UInt64 {
    var entry = world.target(frames) | world.random.next() & 0x466
    if !world.rarely(24) { entry |= 1 }
    if !world.rarely(3) { entry |= 6 }
    if world.rarely(6) {
      // A large page, of some size.
      entry |= 1 << 7
      if !world.rarely(6) { entry &= ~0x1f_e000 }
      if world.rarely(2) { entry &= ~0x3fff_e000 }
    }
    if world.rarely(4) { entry |= 1 << 63 }
    if world.rarely(60) { entry |= 1 << (world.random.next() % 63) }
    return entry
  }

  private func vtdEntry(
    _ world: inout WalkWorld, _ frames: Range<UInt64> = 0..<WalkWorld.frameCount
  ) -> UInt64 {
    var entry = world.target(frames) | world.random.next() & 0x303
    if !world.rarely(20) { entry |= 3 }
    if world.rarely(6) {
      entry |= 1 << 7
      if !world.rarely(6) { entry &= ~0x1f_f000 }
      if world.rarely(2) { entry &= ~0x3fff_f000 }
    }
    if world.rarely(60) { entry |= 1 << (world.random.next() % 64) }
    return entry
  }

  private struct X86Setup {
    var reference: ReferenceX86
    let root: TableRoot
    let rules: EntryRules
  }

  private func x86Setup(
    _ world: inout WalkWorld, stage: any ReferenceStage, root: UInt64
  ) -> X86Setup {
    var reference = ReferenceX86(stage: stage)
    reference.levels = world.rarely(2) ? 4 : 5
    reference.has1GPages = !world.rarely(4)
    reference.writeProtect = world.rarely(2)
    reference.executeDisable = world.rarely(2)
    reference.executeDisableIsReserved = !reference.executeDisable && world.rarely(4)
    reference.executeProtect = world.rarely(2)
    reference.keepsFlags = !world.rarely(3)
    reference.keepsExtended = world.rarely(2)
    var options: WalkOptions = []
    if reference.writeProtect { options.insert(.writeProtect) }
    if reference.executeDisable { options.insert(.executeDisable) }
    if reference.executeProtect { options.insert(.executeProtect) }
    if reference.keepsExtended { options.insert(.extendedAccessed) }
    return X86Setup(
      reference: reference,
      root: TableRoot(
        address: PhysicalAddress(root), topLevel: reference.levels - 1,
        updatesFlags: reference.keepsFlags, options: options,
        forbidden: reference.executeDisableIsReserved ? 1 << 63 : 0),
      rules: VTdFirstStage.rules(addressBits: 46, has1GPages: reference.has1GPages))
  }

  @Test func firstStage() {
    machine.explore(
      "VT-d first stage",
      outcomes: [
        "beyond", "absent 4", "absent 0", "reserved 4", "reserved 2", "reserved 1", "reserved 0",
        "denied 0", "denied 2", "inaccessible 0", "2^30", "2^21", "2^12 RWXrwx",
      ]
    ) { world in
      world.fill { world, _ in x86Entry(&world) }
      let root = world.frame()
      let setup = x86Setup(&world, stage: world.reference, root: root)
      for _ in 0..<WalkMachine.translationsPerWorld {
        let address = input(&world, levels: setup.reference.levels, canonical: true)
        let access = ReferenceAccess.random(&world.random)
        let ours = walkFirstStage(address, setup, access.permissions)
        let difference = world.compare(address, access, ours: ours) {
          try setup.reference.translate(address, root: root, access: access)
        }
        if let difference { return difference }
      }
      return nil
    }
  }

  private func walkFirstStage(
    _ address: UInt64, _ setup: X86Setup, _ access: Permissions
  ) -> String {
    guard let input = VTdFirstStage.input(address, topLevel: setup.root.topLevel) else {
      return WalkFault.beyond.text
    }
    var tables = GuestTables(memory)
    return RadixWalker<VTdFirstStage>.walk(
      input, setup.root, access: access, rules: setup.rules, memory: &tables
    ).text(input)
  }

  @Test func secondStage() {
    machine.explore(
      "VT-d second stage",
      outcomes: ["absent 0", "reserved 1", "denied 0", "inaccessible 0", "2^30", "2^21", "2^12 rw"]
    ) { world in
      world.fill { world, _ in vtdEntry(&world) }
      let root = world.frame()
      var reference = ReferenceVTdSecondStage(memory: world.reference)
      reference.levels = world.rarely(2) ? 4 : 5
      reference.keepsFlags = world.rarely(2)
      let table = TableRoot(
        address: PhysicalAddress(root), topLevel: reference.levels - 1,
        updatesFlags: reference.keepsFlags)
      let rules = VTdSecondStage.rules(addressBits: 46, pageSizes: 3, controlsSnooping: true)
      for _ in 0..<WalkMachine.translationsPerWorld {
        let width = UInt64(12 + 9 * reference.levels)
        let address =
          input(&world, levels: reference.levels, canonical: false) & (1 << width - 1)
        var access = ReferenceAccess.random(&world.random)
        (access.isExecute, access.isPrivileged) = (false, false)
        var window = memory.window
        let ours = RadixWalker<VTdSecondStage>.walk(
          address, table, access: access.permissions, rules: rules, memory: &window
        ).text(address)
        let difference = world.compare(address, access, ours: ours) {
          let page = try reference.translate(address, root: root, access: access)
          return ReferencePage(
            physical: page.physical, sizeShift: page.sizeShift,
            rights: page.rights.intersection("rw"))
        }
        if let difference { return difference }
      }
      return nil
    }
  }

  @Test func nested() {
    machine.explore(
      "VT-d nested",
      outcomes: [
        "beyond", "second beyond", "for entry 4", "for entry 0", "for flags",
        "for data", "second denied", "second reserved", "second inaccessible", "2^21", "2^12",
      ]
    ) { world in
      // Frames 0 to 15 are the second stage's, four for each level; the others the first stage's.
      world.fill { world, frame in
        switch frame {
        case 0..<4: vtdEntry(&world, 16..<32)
        case 4..<16: vtdEntry(&world, (frame / 4 - 1) * 4..<frame / 4 * 4)
        default: x86Entry(&world, 16..<32)
        }
      }
      var host = ReferenceVTdSecondStage(memory: world.reference)
      host.levels = world.rarely(3) ? 3 : 4
      host.keepsFlags = world.rarely(2)
      let secondRoot = world.frame(host.levels == 3 ? 8..<12 : 12..<16)
      let nesting = ReferenceNesting(memory: world.reference) { [host] in
        try host.translate($0, root: secondRoot, access: $1)
      }
      let root = world.frame(16..<32)
      let setup = x86Setup(&world, stage: nesting, root: root)
      let second = SecondStage(
        root: TableRoot(
          address: PhysicalAddress(secondRoot), topLevel: host.levels - 1,
          updatesFlags: host.keepsFlags),
        lastAddress: 1 << UInt64(12 + 9 * host.levels) - 1)
      for _ in 0..<WalkMachine.translationsPerWorld {
        let address = input(&world, levels: setup.reference.levels, canonical: true)
        let access = ReferenceAccess.random(&world.random)
        let ours = walkNested(address, setup, second, access.permissions)
        let difference = world.compare(address, access, ours: ours) {
          try nesting.combine(
            setup.reference.translate(address, root: root, access: access), access)
        }
        if let difference { return difference }
      }
      return nil
    }
  }

  private func walkNested(
    _ address: UInt64, _ setup: X86Setup, _ second: SecondStage, _ access: Permissions
  ) -> String {
    guard let input = VTdFirstStage.input(address, topLevel: setup.root.topLevel) else {
      return WalkFault.beyond.text
    }
    let rules = VTdSecondStage.rules(addressBits: 46, pageSizes: 3, controlsSnooping: true)
    return withUnsafePointer(to: rules) { rules in
      var tables = NestedTables<VTdSecondStage, GuestTables, FrameWindow>(
        second, rules: rules, guest: GuestTables(memory), tables: memory.window)
      return NestedWalker<VTdFirstStage, VTdSecondStage>.walk(
        input, setup.root, access: access, rules: setup.rules, tables: &tables
      ).text(input)
    }
  }

  // MARK: AMD-Vi

  private func amdEntry(
    _ world: inout WalkWorld, level: UInt64, _ frames: Range<UInt64>, isCalm: Bool
  ) -> UInt64 {
    var entry = world.target(frames) | world.random.next() & 0x60
    if !world.rarely(24) { entry |= 1 }
    entry |= world.rarely(20) ? 1 << 61 : 3 << 61  // IR, rarely without IW
    switch isCalm ? 15 : world.random.next() % 16 {
    case 0: entry |= 7 << 9 | (world.random.next() % 8 == 0 ? 0 : 0x1000)
    case 1:
      // A page of 4 MiB or more, in the second level's way to say it.
      entry = entry & ~0x7f_f000 | 7 << 9 | 0x1f_f000
    case 2: entry |= world.random.next() & 0xe00
    default: entry |= level << 9
    }
    if world.rarely(60) { entry |= 1 << (world.random.next() % 64) }
    return entry
  }

  /// Frames as for `nested`. Half of the worlds have host tables without odd levels and sizes, or few nested walks
  /// would come to an end.
  private func fillForAMD(_ world: inout WalkWorld) {
    let isCalm = world.rarely(2)
    world.fill { world, frame in
      switch frame {
      case 0..<16:
        amdEntry(
          &world, level: frame / 4, frame < 4 ? 16..<32 : frames(frame), isCalm: isCalm)
      default: x86Entry(&world, 16..<32)
      }
    }
  }

  private func frames(_ frame: UInt64) -> Range<UInt64> {
    (frame / 4 - 1) * 4..<frame / 4 * 4
  }

  @Test func amdHost() {
    machine.explore(
      "AMD host",
      outcomes: [
        "beyond", "absent 0", "reserved 3", "reserved 1", "reserved 0", "denied 0", "2^12",
        "2^22", "2^14", "inaccessible",
      ]
    ) { world in
      fillForAMD(&world)
      var reference = ReferenceAMDv1(memory: world.reference)
      reference.mode = 2 + Int(world.random.next() % 5)
      reference.keepsFlags = world.rarely(2)
      let level = UInt64(min(3, reference.mode - 1))
      let root = world.frame(level * 4..<level * 4 + 4)
      let table = TableRoot(
        address: PhysicalAddress(root), topLevel: reference.mode - 1,
        updatesFlags: reference.keepsFlags)
      let rules = AMDv1.rules(addressBits: 46)
      for _ in 0..<WalkMachine.translationsPerWorld {
        let address = input(&world, levels: min(5, reference.mode), canonical: false)
        var access = ReferenceAccess.random(&world.random)
        (access.isExecute, access.isPrivileged) = (false, false)
        var window = memory.window
        let isBeyond = reference.mode < 6 && address >> UInt64(12 + 9 * reference.mode) != 0
        let outcome =
          isBeyond
          ? .fault(.beyond)
          : RadixWalker<AMDv1>.walk(
            address, table, access: access.permissions, rules: rules, memory: &window)
        let difference = world.compare(address, access, ours: outcome.text(address)) {
          let page = try reference.translate(address, root: root, access: access)
          return ReferencePage(
            physical: page.physical, sizeShift: page.sizeShift,
            rights: page.rights.intersection("rw"))
        }
        if let difference { return difference }
      }
      return nil
    }
  }

  @Test func amdNested() {
    machine.explore(
      "AMD nested",
      outcomes: ["for entry", "for flags", "for data", "second denied", "second absent", "2^12"]
    ) { world in
      fillForAMD(&world)
      var host = ReferenceAMDv1(memory: world.reference)
      host.keepsFlags = world.rarely(2)
      let hostRoot = world.frame(12..<16)
      let nesting = ReferenceNesting(memory: world.reference) { [host] in
        try host.translate($0, root: hostRoot, access: $1)
      }
      let root = world.frame(16..<32)
      var setup = x86Setup(&world, stage: nesting, root: root)
      setup.reference.keepsExtended = false
      let second = SecondStage(
        root: TableRoot(
          address: PhysicalAddress(hostRoot), topLevel: 3, updatesFlags: host.keepsFlags),
        lastAddress: 1 << 48 - 1)
      let hostRules = AMDv1.rules(addressBits: 46)
      for _ in 0..<WalkMachine.translationsPerWorld {
        let address = input(&world, levels: setup.reference.levels, canonical: true)
        let access = ReferenceAccess.random(&world.random)
        var ours = NestedOutcome.fault(.first(.beyond))
        if let input = AMDGuest.input(address, topLevel: setup.root.topLevel) {
          ours = withUnsafePointer(to: hostRules) { hostRules in
            var tables = NestedTables<AMDv1, GuestTables, FrameWindow>(
              second, rules: hostRules, guest: GuestTables(memory), tables: memory.window)
            return NestedWalker<AMDGuest, AMDv1>.walk(
              input, setup.root, access: access.permissions, rules: setup.rules, tables: &tables)
          }
        }
        let difference = world.compare(address, access, ours: ours.text(address)) {
          try nesting.combine(
            setup.reference.translate(address, root: root, access: access), access)
        }
        if let difference { return difference }
      }
      return nil
    }
  }
}

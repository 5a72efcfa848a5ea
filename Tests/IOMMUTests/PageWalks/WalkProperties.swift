import Testing

@testable import IOMMU

/// VT-d's formats against the reference.
@Suite struct WalkProperties {
  private let machine: WalkMachine
  private var memory: PhysicalMemory { machine.memory }
  private let hostRules = VTdSecondStage.rules(
    addressBits: 46, pageSizes: 3, controlsSnooping: true)

  init() throws { machine = try WalkMachine(unit: 12, worlds: 60) }

  private func entry(
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

  @Test func firstStage() {
    machine.explore(
      "VT-d first stage",
      outcomes: [
        "beyond", "absent 4", "absent 0", "reserved 4", "reserved 2", "reserved 1", "reserved 0",
        "denied 0", "denied 2", "inaccessible 0", "2^30", "2^21", "2^12 RWXrwx",
      ]
    ) { world in
      world.fill { world, _ in world.x86Entry() }
      let root = world.frame()
      let setup = world.x86Setup(stage: world.reference, root: root)
      return world.translate {
        $0.input(levels: setup.reference.levels, canonical: true)
      } ours: { address, access in
        guard let input = VTdFirstStage.input(address, topLevel: setup.root.topLevel) else {
          return WalkFault.inputTooWide.text
        }
        var tables = GuestTableMemory(memory)
        return RadixWalker<VTdFirstStage>.walk(
          input, setup.root, access: access, rules: setup.rules, memory: &tables
        ).text(input)
      } reference: {
        try setup.reference.translate($0, root: root, access: $1)
      }
    }
  }

  @Test func secondStage() {
    machine.explore(
      "VT-d second stage",
      outcomes: ["absent 0", "reserved 1", "denied 0", "inaccessible 0", "2^30", "2^21", "2^12 rw"]
    ) { world in
      world.fill { world, _ in entry(&world) }
      let root = world.frame()
      var reference = ReferenceVTdSecondStage(memory: world.reference)
      reference.levels = world.rarely(2) ? 4 : 5
      reference.keepsFlags = world.rarely(2)
      let table = TableRoot(
        address: PhysicalAddress(root), topLevel: reference.levels - 1,
        updatesFlags: reference.keepsFlags)
      let width = UInt64(12 + 9 * reference.levels)
      return world.translate(isPlain: true) {
        $0.input(levels: reference.levels, canonical: false) & (1 << width - 1)
      } ours: {
        machine.walkHost(VTdSecondStage.self, table, hostRules, $0, $1)
      } reference: {
        try reference.translate($0, root: root, access: $1)
      }
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
      world.fill { world, frame in
        let frames = WalkWorld.framesBelow(frame)
        return frame < 16 ? entry(&world, frames) : world.x86Entry(frames)
      }
      var host = ReferenceVTdSecondStage(memory: world.reference)
      host.levels = world.rarely(3) ? 3 : 4
      host.keepsFlags = world.rarely(2)
      let hostRoot = world.frame(host.levels == 3 ? 8..<12 : 12..<16)
      let nesting = ReferenceNesting(memory: world.reference) { [host] in
        try host.translate($0, root: hostRoot, access: $1)
      }
      let root = world.frame(16..<32)
      let setup = world.x86Setup(stage: nesting, root: root)
      let second = SecondStageTable(
        root: TableRoot(
          address: PhysicalAddress(hostRoot), topLevel: host.levels - 1,
          updatesFlags: host.keepsFlags),
        lastAddress: 1 << UInt64(12 + 9 * host.levels) - 1)
      return world.translate {
        $0.input(levels: setup.reference.levels, canonical: true)
      } ours: {
        setup.walkNested(
          VTdFirstStage.self, in: second, of: VTdSecondStage.self, hostRules, $0, $1, memory)
      } reference: {
        try nesting.combine(setup.reference.translate($0, root: root, access: $1), $1)
      }
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import IOMMU

/// VT-d's formats against the reference.
@Suite struct WalkProperties {
  private let fixture: WalkFixture
  private var memory: PhysicalMemory { fixture.memory }
  private let hostRules = VTdSecondStage.rules(
    addressBits: 46, pageSizes: 3, controlsSnooping: true)

  init() throws { fixture = try WalkFixture(unit: 12, cases: 60) }

  private func entry(
    _ walk: inout WalkCase, _ frames: Range<UInt64> = 0..<WalkCase.frameCount
  ) -> UInt64 {
    var entry = walk.target(frames) | walk.random.next() & 0x303
    if !walk.rarely(20) { entry |= 3 }
    if walk.rarely(6) {
      entry |= 1 << 7
      if !walk.rarely(6) { entry &= ~0x1f_f000 }
      if walk.rarely(2) { entry &= ~0x3fff_f000 }
    }
    if walk.rarely(60) { entry |= 1 << (walk.random.next() % 64 as UInt64) }
    return entry
  }

  @Test("the first stage of VT-d agrees with the reference")
  func firstStage() {
    fixture.explore(
      "VT-d first stage",
      outcomes: [
        "beyond", "absent 4", "absent 0", "reserved 4", "reserved 2", "reserved 1", "reserved 0",
        "denied 0", "denied 2", "inaccessible 0", "2^30", "2^21", "2^12 RWXrwx",
      ]
    ) { walk in
      walk.fill { walk, _ in walk.x86Entry() }
      let root = walk.frame()
      let setup = walk.x86Setup(stage: walk.reference, root: root)
      return walk.translate {
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

  @Test("the second stage of VT-d agrees with the reference")
  func secondStage() {
    fixture.explore(
      "VT-d second stage",
      outcomes: ["absent 0", "reserved 1", "denied 0", "inaccessible 0", "2^30", "2^21", "2^12 rw"]
    ) { walk in
      walk.fill { walk, _ in entry(&walk) }
      let root = walk.frame()
      var reference = ReferenceVTdSecondStage(memory: walk.reference)
      reference.levels = walk.rarely(2) ? 4 : 5
      reference.keepsFlags = walk.rarely(2)
      let table = TableRoot(
        address: PhysicalAddress(root), topLevel: reference.levels - 1,
        updatesFlags: reference.keepsFlags)
      let width = UInt64(12 + 9 * reference.levels)
      return walk.translate(isPlain: true) {
        $0.input(levels: reference.levels, canonical: false) & (1 << width - 1)
      } ours: {
        fixture.walkHost(VTdSecondStage.self, table, hostRules, $0, $1)
      } reference: {
        try reference.translate($0, root: root, access: $1)
      }
    }
  }

  @Test("nested translation of VT-d agrees with the reference")
  func nested() {
    fixture.explore(
      "VT-d nested",
      outcomes: [
        "beyond", "second beyond", "for entry 4", "for entry 0", "for flags",
        "for data", "second denied", "second reserved", "second inaccessible", "2^21", "2^12",
      ]
    ) { walk in
      walk.fill { walk, frame in
        let frames = WalkCase.framesBelow(frame)
        return frame < 16 ? entry(&walk, frames) : walk.x86Entry(frames)
      }
      var host = ReferenceVTdSecondStage(memory: walk.reference)
      host.levels = walk.rarely(3) ? 3 : 4
      host.keepsFlags = walk.rarely(2)
      let hostRoot = walk.frame(host.levels == 3 ? 8..<12 : 12..<16)
      let nesting = ReferenceNesting(memory: walk.reference) { [host] in
        try host.translate($0, root: hostRoot, access: $1)
      }
      let root = walk.frame(16..<32)
      let setup = walk.x86Setup(stage: nesting, root: root)
      let second = SecondStageTable(
        root: TableRoot(
          address: PhysicalAddress(hostRoot), topLevel: host.levels - 1,
          updatesFlags: host.keepsFlags),
        lastAddress: 1 << UInt64(12 + 9 * host.levels) - 1)
      return walk.translate {
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

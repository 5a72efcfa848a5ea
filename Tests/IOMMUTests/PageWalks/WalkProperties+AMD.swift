// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import IOMMU

/// AMD-Vi's formats against the reference.
@Suite struct WalkPropertiesAMD {
  private let fixture: WalkFixture
  private var memory: PhysicalMemory { fixture.memory }
  private let hostRules = AMDv1.rules(addressBits: 46)

  init() throws { fixture = try WalkFixture(unit: 12, cases: 60) }

  private func entry(
    _ walk: inout WalkCase, level: UInt64, _ frames: Range<UInt64>, isCalm: Bool
  ) -> UInt64 {
    var entry = walk.target(frames) | walk.random.next() & 0x60
    if !walk.rarely(24) { entry |= 1 }
    entry |= walk.rarely(20) ? 1 << 61 : 3 << 61  // IR, rarely without IW
    switch isCalm ? 15 : walk.random.next() % 16 {
    case 0: entry |= 7 << 9 | (walk.random.next() % 8 == 0 ? 0 : 0x1000)
    case 1:
      // A page of 4 MiB or more in an entry of the second level.
      entry = entry & ~0x7f_f000 | 7 << 9 | 0x1f_f000
    case 2: entry |= walk.random.next() & 0xe00
    default: entry |= level << 9
    }
    if walk.rarely(60) { entry |= 1 << (walk.random.next() % 64 as UInt64) }
    return entry
  }

  /// Half of the cases have host tables without skipped levels and encoded page sizes. Otherwise
  /// few nested walks would reach a page.
  private func fill(_ walk: inout WalkCase) {
    let isCalm = walk.rarely(2)
    walk.fill { walk, frame in
      let frames = WalkCase.framesBelow(frame)
      return frame < 16
        ? entry(&walk, level: frame / 4, frames, isCalm: isCalm) : walk.x86Entry(frames)
    }
  }

  @Test("the host tables of AMD-Vi agree with the reference")
  func host() {
    fixture.explore(
      "AMD host",
      outcomes: [
        "beyond", "absent 0", "reserved 3", "reserved 1", "reserved 0", "denied 0", "2^12",
        "2^22", "2^14", "inaccessible",
      ]
    ) { walk in
      fill(&walk)
      var reference = ReferenceAMDv1(memory: walk.reference)
      reference.mode = 2 + Int(walk.random.next() % 5)
      reference.keepsFlags = walk.rarely(2)
      let (mode, level) = (reference.mode, UInt64(min(3, reference.mode - 1)))
      let root = walk.frame(level * 4..<level * 4 + 4)
      let table = TableRoot(
        address: PhysicalAddress(root), topLevel: mode - 1, updatesFlags: reference.keepsFlags)
      return walk.translate(isPlain: true) {
        $0.input(levels: min(5, mode), canonical: false)
      } ours: { address, access in
        guard mode == 6 || address >> UInt64(12 + 9 * mode) == 0 else {
          return WalkFault.inputTooWide.text
        }
        return fixture.walkHost(AMDv1.self, table, hostRules, address, access)
      } reference: {
        try reference.translate($0, root: root, access: $1)
      }
    }
  }

  @Test("nested translation of AMD-Vi agrees with the reference")
  func nested() {
    fixture.explore(
      "AMD nested",
      outcomes: ["for entry", "for flags", "for data", "second denied", "second absent", "2^12"]
    ) { walk in
      fill(&walk)
      var host = ReferenceAMDv1(memory: walk.reference)
      host.keepsFlags = walk.rarely(2)
      let hostRoot = walk.frame(12..<16)
      let nesting = ReferenceNesting(memory: walk.reference) { [host] in
        try host.translate($0, root: hostRoot, access: $1)
      }
      let root = walk.frame(16..<32)
      var setup = walk.x86Setup(stage: nesting, root: root)
      setup.reference.keepsExtended = false
      let second = SecondStageTable(
        root: TableRoot(
          address: PhysicalAddress(hostRoot), topLevel: 3, updatesFlags: host.keepsFlags),
        lastAddress: 1 << 48 - 1)
      return walk.translate { [setup] in
        $0.input(levels: setup.reference.levels, canonical: true)
      } ours: { [setup] in
        setup.walkNested(AMDGuest.self, in: second, of: AMDv1.self, hostRules, $0, $1, memory)
      } reference: { [setup] in
        try nesting.combine(setup.reference.translate($0, root: root, access: $1), $1)
      }
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import IOMMU

/// VMSAv8-64 of both stages and all granules against the reference.
@Suite struct WalkPropertiesVMSAv8 {
  private let fixture: WalkFixture
  private var memory: PhysicalMemory { fixture.memory }

  init() throws { fixture = try WalkFixture(unit: 16, cases: 24) }

  private func entry(
    _ walk: inout WalkCase, _ frame: UInt64, isWide: Bool
  ) -> UInt64 {
    var entry = walk.target(WalkCase.framesBelow(frame))
    entry |= walk.random.next() & 0x3fc
    if isWide { entry &= ~0xf300 }
    if !walk.rarely(24) { entry |= 1 }
    if !walk.rarely(8) { entry |= 2 }
    if !walk.rarely(12) { entry |= 1 << 10 }
    if !walk.rarely(3) { entry = entry | 1 << 6 }
    if frame < 16 && !walk.rarely(8) { entry |= 1 << 7 }
    if walk.rarely(3) { entry |= (walk.random.next() & 0xf) << 51 }
    if walk.rarely(6) { entry |= (walk.random.next() & 0xf) << 59 }
    if walk.rarely(60) { entry |= 1 << (walk.random.next() % 64 as UInt64) }
    return entry
  }

  private static func granule(_ shift: Int) -> VMSAv8Table.Granule {
    shift == 12 ? .size4K : shift == 14 ? .size16K : .size64K
  }

  private func options(_ reference: ReferenceVMSAv8) -> WalkOptions {
    var options: WalkOptions = []
    if reference.ha { options.insert(.setsAccessFlag) }
    if reference.hd { options.insert(.setsDirtyState) }
    if reference.affd { options.insert(.ignoresAccessFlag) }
    if reference.hpd { options.insert(.ignoresHierarchicalPermissions) }
    if reference.wxn { options.insert(.writableIsNotExecutable) }
    if reference.onePrivilege { options.insert(.onePrivilege) }
    if reference.wide { options.insert(.wideAddresses) }
    return options
  }

  /// Chooses the options that both stages have.
  private func choose(
    _ reference: inout ReferenceVMSAv8, _ walk: inout WalkCase, isWide: Bool
  ) {
    reference.wide = isWide
    reference.outputBits = walk.rarely(3) ? 36 : isWide ? 52 : walk.rarely(2) ? 42 : 48
    reference.ha = walk.rarely(2)
    reference.hd = reference.ha && walk.rarely(2)
    reference.affd = walk.rarely(4)
  }

  private func chooseStage1(_ reference: inout ReferenceVMSAv8, _ walk: inout WalkCase) {
    reference.inputSize = 16 + Int(walk.random.next() % 24)
    reference.hpd = walk.rarely(3)
    reference.wxn = walk.rarely(3)
    reference.onePrivilege = walk.rarely(4)
  }

  /// Chooses a consistent start level and input size for the addresses of the pool.
  private func chooseStage2(_ reference: inout ReferenceVMSAv8, _ walk: inout WalkCase) {
    reference.isStage2 = true
    repeat {
      reference.inputSize = 16 + Int(walk.random.next() % 15)
      reference.startLevel = Int(walk.random.next() % 3)
      if reference.wide && reference.granule == 12 && walk.rarely(8) {
        reference.startLevel = -1
        reference.inputSize = 12 + Int(walk.random.next() % 4)
      }
    } while !reference.isConsistent || (reference.granule == 16 && reference.startLevel < 1)
  }

  private func table1(_ reference: ReferenceVMSAv8, _ root: UInt64) -> VMSAv8Table? {
    VMSAv8Table(
      stage1: PhysicalAddress(root), granule: Self.granule(reference.granule),
      inputSize: reference.inputSize, outputBits: reference.outputBits, minimumSize: 12,
      options: options(reference))
  }

  private func table2(_ reference: ReferenceVMSAv8, _ root: UInt64) -> VMSAv8Table? {
    VMSAv8Table(
      stage2: PhysicalAddress(root), granule: Self.granule(reference.granule),
      inputSize: reference.inputSize, startLevel: reference.startLevel,
      outputBits: reference.outputBits, minimumSize: 12, options: options(reference))
  }

  /// Returns an address whose table indexes are mostly in use.
  private func input(_ walk: inout WalkCase, _ reference: ReferenceVMSAv8) -> UInt64 {
    var address = walk.frame() | walk.random.next() & 0xffff
    let stride = UInt64(reference.granule - 3)
    var low = UInt64(reference.granule)
    while low < UInt64(reference.inputBits) {
      if !walk.rarely(3) {
        let mask = UInt64(1) << stride - 1
        let index = walk.rarely(8) ? mask : walk.random.next() % 3
        address = address & ~(mask << low) | index << low
      }
      low += stride
    }
    address &= 1 << UInt64(reference.inputBits) - 1
    if reference.isStage2 && walk.rarely(40) { address |= 1 << UInt64(reference.inputBits) }
    return address
  }

  /// - Parameter nesting: The second stage of the reference.
  private func translate(
    _ walk: inout WalkCase, _ reference: ReferenceVMSAv8, _ root: UInt64,
    under nesting: ReferenceNesting? = nil, ours: (UInt64, Permissions) -> String
  ) -> String? {
    walk.translate {
      input(&$0, reference)
    } ours: {
      ours($0, $1)
    } reference: {
      let page = try reference.translate($0, root: root, access: $1)
      return try nesting?.combine(page, $1) ?? page
    }.map { "\($0), \(reference)" }
  }

  @Test("stage 1 of VMSAv8-64 agrees with the reference", arguments: [12, 14, 16], [false, true])
  func stage1(granule: Int, isWide: Bool) {
    fixture.explore(
      "stage 1 of 2^\(granule)",
      outcomes: ["absent 0", "too wide", "unused", "denied 0", "2^\(granule) ", "RWrw", "RX"]
    ) { walk in
      walk.fill { entry(&$0, $1, isWide: isWide) }
      var reference = ReferenceVMSAv8(stage: walk.reference)
      reference.granule = granule
      choose(&reference, &walk, isWide: isWide)
      chooseStage1(&reference, &walk)
      let root = walk.frame()
      guard let table = table1(reference, root) else { return "no table of \(reference)" }
      return translate(&walk, reference, root) { address, access in
        var tables = GuestTableMemory(memory)
        return VMSAv8.walk(stage1: table, address, access: access, memory: &tables).text(address)
      }
    }
  }

  @Test("stage 2 of VMSAv8-64 agrees with the reference", arguments: [12, 14, 16], [false, true])
  func stage2(granule: Int, isWide: Bool) {
    fixture.explore(
      "stage 2 of 2^\(granule)",
      outcomes: ["beyond", "absent 0", "too wide", "unused", "denied 0", "2^\(granule) ", "RWrw"]
    ) { walk in
      walk.fill { entry(&$0, $1, isWide: isWide) }
      var reference = ReferenceVMSAv8(stage: walk.reference)
      reference.granule = granule
      choose(&reference, &walk, isWide: isWide)
      chooseStage2(&reference, &walk)
      let root = walk.frame()
      guard let table = table2(reference, root) else { return "no table of \(reference)" }
      return translate(&walk, reference, root) { address, access in
        var tables = memory.window
        return VMSAv8.walk(stage2: table, address, access: access, memory: &tables).text(address)
      }
    }
  }

  @Test(
    "nested translation of VMSAv8-64 agrees with the reference", arguments: [12, 14, 16],
    [12, 14, 16])
  func nested(first: Int, second: Int) {
    fixture.explore(
      "2^\(first) in 2^\(second)",
      outcomes: ["for entry", "for data", "second absent", "second denied", "absent", "2^"]
    ) { walk in
      walk.fill { entry(&$0, $1, isWide: false) }
      var host = ReferenceVMSAv8(stage: walk.reference)
      host.granule = second
      choose(&host, &walk, isWide: false)
      chooseStage2(&host, &walk)
      let hostTop = UInt64(3 - host.startLevel)
      let hostRoot = walk.frame(hostTop * 4..<hostTop * 4 + 4)
      let nesting = ReferenceNesting(memory: walk.reference) { [host] in
        try host.translate($0, root: hostRoot, access: $1)
      }
      var reference = ReferenceVMSAv8(stage: nesting)
      reference.granule = first
      choose(&reference, &walk, isWide: false)
      chooseStage1(&reference, &walk)
      let root = walk.frame(16..<32)
      guard let table = table1(reference, root), let hostTable = table2(host, hostRoot) else {
        return "no table"
      }
      let difference = translate(&walk, reference, root, under: nesting) { address, access in
        VMSAv8.walk(
          nested: table, in: hostTable, address, access: access, guest: GuestTableMemory(memory),
          tables: memory.window
        ).text(address)
      }
      return difference.map { "\($0) in \(host)" }
    }
  }
}

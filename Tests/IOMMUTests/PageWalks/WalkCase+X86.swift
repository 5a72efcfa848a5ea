// SPDX-License-Identifier: Apache-2.0

// Entries and options of the x86 format, which VT-d's first stage and AMD-Vi's guest tables use.

@testable import IOMMU

/// A first stage with random options.
struct X86Setup {
  var reference: ReferenceX86
  let root: TableRoot
  let rules: EntryRules
}

extension WalkCase {
  /// Returns an address whose table indexes are mostly in use in the pool.
  mutating func input(levels: Int, canonical: Bool) -> UInt64 {
    var address = frame() | random.next() & 0xfff
    for level in 1..<levels where !rarely(3) {
      let low = UInt64(12 + 9 * level)
      let index: UInt64 = rarely(8) ? 511 : random.next() % 3
      address = address & ~(511 << low) | index << low
    }
    if canonical && bit(11 + 9 * levels, of: address) {
      address |= ~0 << UInt64(12 + 9 * levels)
    }
    if rarely(50) { address ^= 1 << (40 + random.next() % 24 as UInt64) }
    return address
  }

  mutating func x86Entry(_ frames: Range<UInt64> = 0..<frameCount) -> UInt64 {
    var entry = target(frames) | random.next() & 0x466
    if !rarely(24) { entry |= 1 }
    if !rarely(3) { entry |= 6 }
    if rarely(6) {
      // A large page.
      entry |= 1 << 7
      if !rarely(6) { entry &= ~0x1f_e000 }
      if rarely(2) { entry &= ~0x3fff_e000 }
    }
    if rarely(4) { entry |= 1 << 63 }
    if rarely(60) { entry |= 1 << (random.next() % 63 as UInt64) }
    return entry
  }

  mutating func x86Setup(stage: any ReferenceStage, root: UInt64) -> X86Setup {
    var reference = ReferenceX86(stage: stage)
    reference.levels = rarely(2) ? 4 : 5
    reference.has1GPages = !rarely(4)
    reference.writeProtect = rarely(2)
    reference.executeDisable = rarely(2)
    reference.executeDisableIsReserved = !reference.executeDisable && rarely(4)
    reference.executeProtect = rarely(2)
    reference.keepsFlags = !rarely(3)
    reference.keepsExtended = rarely(2)
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
}

extension X86Setup {
  /// Walks the first-stage table nested on `second`.
  func walkNested<First: X86Format, Second: WalkableFormat>(
    _: First.Type, in second: SecondStageTable, of _: Second.Type, _ rules: EntryRules,
    _ address: UInt64, _ access: Permissions, _ memory: PhysicalMemory
  ) -> String {
    guard let input = First.input(address, topLevel: root.topLevel) else {
      return WalkFault.inputTooWide.text
    }
    return withUnsafePointer(to: rules) { rules in
      var tables = NestedTableMemory<Second, _, _>(
        second, rules: rules, guest: GuestTableMemory(memory), tables: memory.window)
      return NestedWalker<First, Second>.walk(
        input, root, access: access, rules: self.rules, tables: &tables
      ).text(input)
    }
  }
}

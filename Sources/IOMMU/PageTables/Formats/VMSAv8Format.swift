// SPDX-License-Identifier: Apache-2.0

// The translation tables of Arm's VMSAv8-64, as SMMUv3 walks them (Arm DDI 0487 K.a, D8.3
// Translation table descriptor formats; IHI 0070 G, §3.4).
//
// Level 0 is Arm's level 3: Arm's number of level n is 3 - n, down to -1. With the 4 KiB granule a
// table has 512 descriptors, with 16 KiB 2,048, and with 64 KiB 8,192. The top table has as many
// descriptors as the input address needs. That can be a few, and in stage 2 it can be as many as 16
// tables have.
//
// Hardware does not check the bits that Arm calls RES0. It checks the descriptor's type, and the
// output address, which must fit in the size that registers give (`TableRoot.forbidden`, for this
// format a mask of address bits).
//
// The Contiguous bit has effect when the output address of the descriptor has the same position in
// the contiguous run as the descriptor itself. The whole run is then one translation, made from
// this descriptor. In another descriptor the bit is ignored. Both are among the outcomes that
// D8.7.1.1 ("Misprogramming the Contiguous bit", rules RNGLXZ and RJQQTC) leaves to
// implementations. Every walk checks the output size by the descriptor that it read, as rule RXFDVL
// demands.

/// The properties of tables that depend on the translation granule.
protocol VMSAv8Granule {
  /// log2 of the granule.
  static var shift: Int { get }
  /// The highest level that can have blocks (D8.3.1 Table D8-15 on).
  static var highestBlock: Int { get }
  /// The highest level that can have blocks with 52-bit addresses.
  static var highestWideBlock: Int { get }
  /// Returns log2 of the number of descriptors in a contiguous run at `level`. 0 where the
  /// Contiguous bit has no effect.
  static func runBits(level: Int) -> Int
}

enum Granule4K: VMSAv8Granule {
  static var shift: Int { 12 }
  static var highestBlock: Int { 2 }
  static var highestWideBlock: Int { 3 }
  /// Runs of 64 KiB, 32 MiB and 16 GiB.
  @inline(__always)
  static func runBits(level: Int) -> Int { level <= 2 ? 4 : 0 }
}

enum Granule16K: VMSAv8Granule {
  static var shift: Int { 14 }
  static var highestBlock: Int { 1 }
  static var highestWideBlock: Int { 2 }
  /// Runs of 2 MiB and 1 GiB.
  @inline(__always)
  static func runBits(level: Int) -> Int { level == 0 ? 7 : level == 1 ? 5 : 0 }
}

enum Granule64K: VMSAv8Granule {
  static var shift: Int { 16 }
  static var highestBlock: Int { 1 }
  static var highestWideBlock: Int { 2 }
  /// Runs of 2 MiB and 16 GiB.
  @inline(__always)
  static func runBits(level: Int) -> Int { level <= 1 ? 5 : 0 }
}

/// The part of the format that stage 1 and stage 2 share.
protocol VMSAv8Format: WalkableFormat {
  associatedtype Granule: VMSAv8Granule
}

/// The bits of a descriptor that both stages have.
enum VMSAv8Bits {
  static let valid: UInt64 = 1 << 0
  /// Set in a table descriptor and, at level 0, in a page descriptor. Clear in a block descriptor.
  static let type: UInt64 = 1 << 1
  /// Stage 1: AP[1], unprivileged access. Stage 2: S2AP[0], read.
  static let access0: UInt64 = 1 << 6
  /// Stage 1: AP[2], read-only. Stage 2: S2AP[1], write.
  static let access1: UInt64 = 1 << 7
  static let innerShareable: UInt64 = 3 << 8
  /// AF.
  static let accessFlag: UInt64 = 1 << 10
  /// DBM.
  static let dirtyModifier: UInt64 = 1 << 51
  static let contiguous: UInt64 = 1 << 52
}

extension VMSAv8Format {
  @inline(__always)
  static var granuleShift: Int { Granule.shift }
  @inline(__always)
  static var indexBits: Int { Granule.shift &- 3 }
  @inline(__always)
  static var hasVariableTopTable: Bool { true }
  static var accessed: UInt64 { VMSAv8Bits.accessFlag }

  // MARK: Types

  @inline(__always)
  static func classify(_ entry: UInt64, level: Int) -> EntryClass {
    classify(entry, level: level, highestBlock: Granule.highestBlock)
  }

  @inline(__always)
  static func classify(_ entry: UInt64, level: Int, root: TableRoot) -> EntryClass {
    let isWide = root.options.contains(.wideAddresses)
    return classify(
      entry, level: level,
      highestBlock: isWide ? Granule.highestWideBlock : Granule.highestBlock)
  }

  /// Returns the class of a descriptor. A block at a level that has no blocks, and the reserved
  /// type at level 0, are invalid.
  @inline(__always)
  private static func classify(_ entry: UInt64, level: Int, highestBlock: Int) -> EntryClass {
    if entry & VMSAv8Bits.valid == 0 { return .empty }
    if entry & VMSAv8Bits.type != 0 { return level == 0 ? .leaf : .table }
    return level > 0 && level <= highestBlock ? .leaf : .empty
  }

  // MARK: Addresses

  @inline(__always)
  private static var lowBits: UInt64 {
    1 &<< UInt64(truncatingIfNeeded: Granule.shift) &- 1
  }

  @inline(__always)
  static func address(_ entry: UInt64) -> PhysicalAddress {
    PhysicalAddress(entry & 0x0000_ffff_ffff_f000 & ~lowBits)
  }

  /// Returns the output address: D8.3.1 for 48 bits, and for 52 bits with either encoding of the
  /// upper four.
  @inline(__always)
  static func output(_ entry: UInt64, root: TableRoot) -> UInt64 {
    guard root.options.contains(.wideAddresses) else { return address(entry).rawValue }
    if Granule.shift == 16 {
      return address(entry).rawValue | (entry &>> 12 & 0xf) &<< 48
    }
    return entry & 0x0003_ffff_ffff_f000 & ~lowBits | (entry &>> 8 & 3) &<< 50
  }

  @inline(__always)
  static func table(_ entry: UInt64, root: TableRoot) -> PhysicalAddress {
    PhysicalAddress(output(entry, root: root))
  }

  @inline(__always)
  static func page(
    _ entry: UInt64, for address: UInt64, level: Int, root: TableRoot
  ) -> (physical: PhysicalAddress, shift: Int) {
    let shift = itemShift(level)
    let offset = 1 &<< UInt64(truncatingIfNeeded: shift) &- 1
    let physical = output(entry, root: root) & ~offset
    let runBits = Granule.runBits(level: level)
    if entry & VMSAv8Bits.contiguous != 0 && runBits > 0 {
      let run = (1 &<< UInt64(truncatingIfNeeded: shift &+ runBits) &- 1) & ~offset
      if (physical ^ address) & run == 0 {
        return (PhysicalAddress(physical & ~run), shift &+ runBits)
      }
    }
    return (PhysicalAddress(physical), shift)
  }

  // MARK: Addresses that are too wide

  @inline(__always)
  static func isMalformed(
    table entry: UInt64, for _: UInt64, level _: Int, root: TableRoot,
    rules _: borrowing EntryRules
  ) -> Bool {
    output(entry, root: root) & root.forbidden != 0
  }

  /// Returns whether the output address is too wide. Address bits below the block's size are
  /// ignored.
  @inline(__always)
  static func isMalformed(
    leaf entry: UInt64, for _: UInt64, level: Int, root: TableRoot,
    rules _: borrowing EntryRules
  ) -> Bool {
    let offset = 1 &<< UInt64(truncatingIfNeeded: itemShift(level)) &- 1
    return output(entry, root: root) & root.forbidden & ~offset != 0
  }

  @inline(__always)
  static func malformedFault(level: Int) -> WalkFault { .outputTooWide(level: level) }

  // MARK: Flags

  @inline(__always)
  static func isAccessFlagFault(_ entry: UInt64, root: TableRoot) -> Bool {
    entry & VMSAv8Bits.accessFlag == 0
      && !root.options.contains(.setsAccessFlag) && !root.options.contains(.ignoresAccessFlag)
  }

  /// Returns the descriptor unchanged: table descriptors have no flags, because FEAT_HAFT is not
  /// implemented.
  @inline(__always)
  static func settingFlags(table entry: UInt64, root _: TableRoot) -> UInt64 { entry }

  /// Returns whether hardware makes the leaf dirty when it writes through the leaf (D8.5.6: DBM,
  /// with HD).
  @inline(__always)
  static func hasDirtyState(_ entry: UInt64, root: TableRoot) -> Bool {
    entry & VMSAv8Bits.dirtyModifier != 0 && root.options.contains(.setsDirtyState)
  }

  /// Returns the leaf with the Access flag, if hardware sets the flag.
  @inline(__always)
  static func settingAccessFlag(_ entry: UInt64, root: TableRoot) -> UInt64 {
    root.options.contains(.setsAccessFlag) ? entry | VMSAv8Bits.accessFlag : entry
  }

  // MARK: Making entries

  static func makeTable(at address: PhysicalAddress, level _: Int) -> UInt64 {
    address.rawValue | VMSAv8Bits.valid | VMSAv8Bits.type
  }

  static func possibleSizes(level: Int) -> UInt64 {
    level <= Granule.highestBlock ? 1 << UInt64(itemShift(level)) : 0
  }

  /// Makes a valid leaf for `address`: inner shareable, with the Access flag, without permissions.
  static func makeBareLeaf(at address: PhysicalAddress, level: Int) -> UInt64 {
    address.rawValue | VMSAv8Bits.valid | (level == 0 ? VMSAv8Bits.type : 0)
      | VMSAv8Bits.innerShareable | VMSAv8Bits.accessFlag
  }
}

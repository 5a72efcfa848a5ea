// SPDX-License-Identifier: Apache-2.0

package import IOMMU

/// Memory of 8 MiB with AMD-Vi guest page tables (x86 long mode format). The entries hold addresses
/// from `base` on.
package final class AMDViTables {
  /// The address at which the host tables of the fixtures map the memory.
  package static let hostBase: UInt64 = 0x4000_0000
  package static let size: UInt64 = 8 << 20
  /// P, R/W and U/S of an entry.
  package static let user: UInt64 = 7

  package let base: UInt64
  private let memory: PhysicalMemory
  private let start: PhysicalAddress
  /// The first 16 pages are for data.
  private var next: UInt64 = 16

  /// - Parameter base: The address of the first byte in entries: its physical address, or the
  ///   address at which a host table maps `start`.
  package init(_ memory: PhysicalMemory, _ start: PhysicalAddress, base: UInt64) {
    (self.memory, self.start, self.base) = (memory, start, base)
  }

  package func physicalAddress(of address: UInt64) -> PhysicalAddress {
    PhysicalAddress(start.rawValue + address - base)
  }

  /// The word at an address.
  package subscript(address: UInt64) -> UInt64 {
    get { memory.word(at: physicalAddress(of: address)) ?? 0 }
    set { memory.storeEntry(newValue, at: physicalAddress(of: address)) }
  }

  /// Returns the address of a page of zeros.
  package func allocate() -> UInt64 {
    defer { next += 1 }
    precondition((next + 1) << 12 <= Self.size)
    return base + next << 12
  }

  /// Returns the address of a data page.
  package func data(_ index: UInt64) -> UInt64 { base + index << 12 }

  /// Returns the address of the entry that translates `address`, and allocates missing tables
  /// above it.
  package func entry(
    _ root: UInt64, _ address: UInt64, level: Int = 0, levels: Int = 4
  ) -> UInt64 {
    var table = root
    var upper = levels - 1
    while upper > level {
      let place = table + (address >> UInt64(12 + 9 * upper) & 511) * 8
      if self[place] & 1 == 0 { self[place] = allocate() | Self.user }
      table = self[place] & 0x000f_ffff_ffff_f000
      upper -= 1
    }
    return table + (address >> UInt64(12 + 9 * level) & 511) * 8
  }

  package func map(_ root: UInt64, _ address: UInt64, to page: UInt64, _ flags: UInt64 = user) {
    self[entry(root, address)] = page | flags
  }

  /// Maps a page of 2 MiB.
  package func mapLarge(_ root: UInt64, _ address: UInt64, to page: UInt64) {
    self[entry(root, address, level: 1)] = page | Self.user | 0x80
  }
}

// SPDX-License-Identifier: Apache-2.0

// Entry points for iommufd-bench and scripts/census. No other code uses this folder.
//
// The entry points are part of the IOMMU module because a walk or a look-up that another module
// times would run unspecialised generic code, and not the code that a DMA request runs. Each entry
// point does a batch of operations, because one operation takes only a few nanoseconds. The
// folder's name sorts after PageTables: Swift 6.3.1 optimises files in the order of their paths,
// and it inlined less of the nested walk into a benchmark whose file came before the walker's.

/// The host memory behind physical memory, for C code that walks the same tables.
package struct MemoryImage {
  /// The host address of physical address 0.
  package let base: UnsafeMutableRawPointer
  /// The `FrameKind` of each frame.
  package let kinds: UnsafeRawPointer
  package let frameCount: UInt64
}

extension PhysicalMemory {
  package var image: MemoryImage {
    MemoryImage(
      base: window.base, kinds: window.kindBytes,
      frameCount: 1 << UInt64(addressBits - Frame.shift))
  }
}

/// The reserved bits of table entries and of leaves, by level.
package typealias ReservedBits = (table: [UInt64], leaf: [UInt64])

extension EntryRules {
  var reservedBits: ReservedBits {
    ((0..<6).map { reservedInTable[$0] }, (0..<6).map { reservedInLeaf[$0] })
  }
}

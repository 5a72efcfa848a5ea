// SPDX-License-Identifier: Apache-2.0

// The inputs that the C side and the Swift side of a row share.

import CYardstick
import IOMMU

/// The addresses that look-ups, walks and DMA requests use, the same in every run.
///
/// Page n is at IOVA n << 13. Mapped pages are therefore neither adjacent nor aligned to larger
/// pages, and every walk goes through all levels.
struct AddressLists {
  static let hotPages = 256
  static let coldPages = 65_536

  /// 65,536 addresses in `hotPages` pages, whose translations and table entries stay cached.
  let hot: [UInt64]
  /// 65,536 addresses in `coldPages` pages.
  let cold: [UInt64]

  init() {
    var random = UInt64(1)
    func list(of pages: Int) -> [UInt64] {
      (0..<65_536).map { _ in
        random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Self.iova(ofPage: Int(random >> 33) % pages) | (random >> 20 & 0x3f) << 4
      }
    }
    hot = list(of: Self.hotPages)
    cold = list(of: Self.coldPages)
  }

  static func iova(ofPage page: Int) -> UInt64 { UInt64(page) << 13 }
}

extension yardstick_memory {
  /// Describes the physical memory that both sides read.
  init(_ memory: PhysicalMemory) {
    let image = memory.image
    self.init(
      base: image.base.assumingMemoryBound(to: UInt8.self),
      kinds: image.kinds.assumingMemoryBound(to: UInt8.self), frames: image.frameCount)
  }
}

extension yardstick_table {
  /// Describes a table of four levels with the root `root`, which a unit checks for `reserved`
  /// bits.
  init(root: PhysicalAddress, _ reserved: ReservedBits) {
    self.init()
    self.root = root.rawValue
    last = 1 << 48 - 1
    top_level = 3
    withUnsafeMutableBytes(of: &reserved_in_table) { bytes in
      reserved.table.withUnsafeBytes { bytes.copyMemory(from: $0) }
    }
    withUnsafeMutableBytes(of: &reserved_in_leaf) { bytes in
      reserved.leaf.withUnsafeBytes { bytes.copyMemory(from: $0) }
    }
  }
}

/// Returns the sum of the results of `count` calls. A plain loop, so that little else is measured.
@inline(__always)
func repeated(_ count: Int, _ body: (Int) -> UInt64) -> UInt64 {
  var sum: UInt64 = 0
  var index = 0
  while index < count {
    sum &+= body(index)
    index &+= 1
  }
  return sum
}

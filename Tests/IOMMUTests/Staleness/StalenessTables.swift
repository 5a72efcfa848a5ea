// SPDX-License-Identifier: Apache-2.0

// Page tables that are the same for every unit. The trees share their lower tables, so that a
// change of one entry changes many translations.
//
//   address  512 GiB | g: 1 GiB | m: 2 MiB | l: 4 KiB      page = g · 8 + m · 4 + l
//   root r ── g ──▶ directory d ── m ──▶ table t ── l ──▶ frame ── host ──▶ physical frame
//                                   └──▶ large page
//
// The table above the two entries for g never changes. Frames are numbered. The frames of large
// pages follow the small ones, and the host never remaps them.

@testable import IOMMU

struct StalenessTables {
  static let roots = 4
  static let directories = 4
  static let tables = 6
  static let smallFrames = 16
  static let largePages = 2
  static let frames = smallFrames + largePages * 4
  static let pages = 16
  static let base: UInt64 = 0x40_0000_0000

  enum Middle: Equatable {
    case absent
    case table(Int)
    case large(Int)
  }

  enum Bottom: Equatable {
    case absent
    case page(Int, writable: Bool)
  }

  /// The entries by root and g, directory and m, table and l, and small frame.
  var top: [[Int]]
  var middle: [[Middle]]
  var bottom: [[Bottom]]
  var host = Array(0..<smallFrames)

  init() {
    top = (0..<Self.roots).map { [$0, ($0 + 1) % Self.directories] }
    middle = (0..<Self.directories).map { [.table($0), .table($0 + 1)] }
    bottom = (0..<Self.tables).map { table in
      (0..<4).map { .page((table * 3 + $0) % Self.smallFrames, writable: true) }
    }
  }

  static func address(_ page: Int) -> UInt64 {
    base + UInt64(page / 8) << 30 + UInt64(page / 4 % 2) << 21 + UInt64(page % 4) << 12
  }

  static func frame(ofLarge large: Int, _ page: Int) -> Int { smallFrames + large * 4 + page % 4 }

  /// Returns the frame that a walk without caches finds, or `nil`.
  func walk(_ root: Int, _ page: Int) -> (frame: Int, writable: Bool)? {
    switch middle[top[root][page / 8]][page / 4 % 2] {
    case .absent: return nil
    case .large(let large): return (Self.frame(ofLarge: large, page), true)
    case .table(let table):
      guard case .page(let frame, let writable) = bottom[table][page % 4] else { return nil }
      return (host[frame], writable)
    }
  }
}

/// The frames that a translation can reach, for reads and for writes.
struct FrameSet {
  private var readable: UInt64 = 0
  private var writable: UInt64 = 0
  /// Whether one of the translations was read-only.
  private(set) var hasReadOnly = false

  func contains(_ frame: Int, forWriting: Bool) -> Bool {
    (forWriting ? writable : readable) & 1 << UInt64(frame) != 0
  }

  mutating func insert(_ frame: Int, writable isWritable: Bool) {
    readable |= 1 << UInt64(frame)
    if isWritable { writable |= 1 << UInt64(frame) } else { hasReadOnly = true }
  }

  mutating func formUnion(_ other: FrameSet) {
    readable |= other.readable
    writable |= other.writable
    hasReadOnly = hasReadOnly || other.hasReadOnly
  }
}

/// A set of small numbers.
struct NumberSet: Sequence {
  private var bits: UInt64 = 0

  mutating func insert(_ number: Int) { bits |= 1 << UInt64(number) }

  func makeIterator() -> AnyIterator<Int> {
    var rest = bits
    return AnyIterator {
      guard rest != 0 else { return nil }
      defer { rest &= rest - 1 }
      return rest.trailingZeroBitCount
    }
  }
}

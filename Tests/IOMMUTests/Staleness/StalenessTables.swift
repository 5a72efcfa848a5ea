// A small world of page tables, the same for every unit: trees that share their lower tables, so that one
// entry's change is felt in many places.
//
//   address  512 GiB | g: 1 GiB | m: 2 MiB | l: 4 KiB      page = g · 8 + m · 4 + l
//   root r ── g ──▶ directory d ── m ──▶ table t ── l ──▶ frame ── host ──▶ physical frame
//                                   └──▶ large page
//
// Above a root's two entries for g, one table leads to them, which never changes. Frames are numbered;
// those of large pages follow the small ones and are where the host has them, always.

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

  /// By root and g, directory and m, table and l, small frame.
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

  /// What a whole walk finds now; nil: nothing.
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

/// Frames that a translation may lead to, for reading and for writing.
struct FrameSet {
  private var readable: UInt64 = 0
  private var writable: UInt64 = 0
  /// One of them was read-only.
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

/// The tables in a unit's memory.
struct StalenessMemory {
  /// How a format writes an entry that leads to an address.
  struct Format: Sendable {
    let table: @Sendable (UInt64) -> UInt64
    let large: @Sendable (UInt64) -> UInt64
    let page: @Sendable (UInt64, _ writable: Bool) -> UInt64

    static let x86 = Format(
      table: { $0 | 7 }, large: { $0 | 0x87 }, page: { $0 | ($1 ? 7 : 5) })
  }

  static let size: UInt64 = 8 << 20
  private static let dataStart: UInt64 = 2 << 20
  private static let largeStart: UInt64 = 4 << 20

  let memory: PhysicalMemory
  let start: PhysicalAddress
  /// What entries call the first byte: its physical address, or the host's input.
  let base: UInt64
  private let format: Format
  private var next: UInt64 = 0
  private(set) var roots: [UInt64] = []
  private var directories: [UInt64] = []
  private var tables: [UInt64] = []

  /// - Parameter start: of 8 MiB, aligned to that.
  init(_ memory: PhysicalMemory, _ start: PhysicalAddress, base: UInt64, _ format: Format) {
    self.memory = memory
    self.start = start
    self.base = base
    self.format = format
    directories = (0..<StalenessTables.directories).map { _ in take() }
    tables = (0..<StalenessTables.tables).map { _ in take() }
    roots = (0..<StalenessTables.roots).map { _ in take() }
    for root in roots {
      self[root + (StalenessTables.base >> 39 & 511) * 8] = format.table(take())
    }
    for frame in 0..<StalenessTables.frames {
      memory.storeEntry(UInt64(frame) + 1, at: place(ofFrame: frame))
    }
  }

  /// A zeroed page, by its address for entries.
  mutating func take() -> UInt64 {
    defer { next += 4096 }
    precondition(next < Self.dataStart)
    return base + next
  }

  subscript(address: UInt64) -> UInt64 {
    get { memory.word(at: PhysicalAddress(start.rawValue + address - base)) ?? 0 }
    nonmutating set {
      memory.storeEntry(newValue, at: PhysicalAddress(start.rawValue + address - base))
    }
  }

  /// From `start` on.
  static func offset(ofFrame frame: Int) -> UInt64 {
    let small = StalenessTables.smallFrames
    guard frame >= small else { return dataStart + UInt64(frame) << 12 }
    return largeStart + UInt64((frame - small) / 4) << 21 + UInt64((frame - small) % 4) << 12
  }

  func place(ofFrame frame: Int) -> PhysicalAddress {
    PhysicalAddress(start.rawValue + Self.offset(ofFrame: frame))
  }

  // MARK: Entries

  func storeAll(_ tables: StalenessTables) {
    for root in 0..<StalenessTables.roots { for g in 0..<2 { storeTop(root, g, tables) } }
    for directory in 0..<StalenessTables.directories {
      for m in 0..<2 { storeMiddle(directory, m, tables) }
    }
    for table in 0..<StalenessTables.tables { for l in 0..<4 { storeBottom(table, l, tables) } }
  }

  func storeTop(_ root: Int, _ g: Int, _ tables: StalenessTables) {
    let upper = self[roots[root] + (StalenessTables.base >> 39 & 511) * 8] & 0xf_ffff_f000
    let index = (StalenessTables.base >> 30) + UInt64(g) & 511
    self[upper + index * 8] = format.table(directories[tables.top[root][g]])
  }

  func storeMiddle(_ directory: Int, _ m: Int, _ tables: StalenessTables) {
    self[directories[directory] + UInt64(m) * 8] =
      switch tables.middle[directory][m] {
      case .absent: 0
      case .table(let table): format.table(self.tables[table])
      case .large(let large): format.large(base + Self.largeStart + UInt64(large) << 21)
      }
  }

  func storeBottom(_ table: Int, _ l: Int, _ tables: StalenessTables) {
    self[self.tables[table] + UInt64(l) * 8] =
      switch tables.bottom[table][l] {
      case .absent: 0
      case .page(let frame, let writable):
        format.page(base + Self.offset(ofFrame: frame), writable)
      }
  }
}

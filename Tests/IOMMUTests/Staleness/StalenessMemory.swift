// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import IOMMU

/// The page tables of the model in physical memory.
struct StalenessMemory {
  /// The entries of a page table format.
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
  /// The address of the first byte in entries: its physical address, or the address that the host
  /// table maps.
  let base: UInt64
  private let format: Format
  private var next: UInt64 = 0
  private(set) var roots: [UInt64] = []
  private var directories: [UInt64] = []
  private var tables: [UInt64] = []

  /// - Parameter start: The address of 8 MiB, a multiple of 8 MiB.
  init(_ memory: PhysicalMemory, _ start: PhysicalAddress, base: UInt64, _ format: Format) {
    self.memory = memory
    self.start = start
    self.base = base
    self.format = format
    directories = (0..<StalenessTables.directories).map { _ in allocate() }
    tables = (0..<StalenessTables.tables).map { _ in allocate() }
    roots = (0..<StalenessTables.roots).map { _ in allocate() }
    for root in roots {
      self[root + (StalenessTables.base >> 39 & 511) * 8] = format.table(allocate())
    }
    for frame in 0..<StalenessTables.frames {
      memory.storeEntry(UInt64(frame) + 1, at: physicalAddress(ofFrame: frame))
    }
  }

  /// Returns the address of a page of zeros.
  mutating func allocate() -> UInt64 {
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

  /// The offset of a frame from `start`.
  static func offset(ofFrame frame: Int) -> UInt64 {
    let small = StalenessTables.smallFrames
    guard frame >= small else { return dataStart + UInt64(frame) << 12 }
    return largeStart + UInt64((frame - small) / 4) << 21 + UInt64((frame - small) % 4) << 12
  }

  func physicalAddress(ofFrame frame: Int) -> PhysicalAddress {
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

// MARK: A host's table in between

extension StalenessMemory {
  /// Maps the memory in a second-stage table, with one page for each small frame.
  func mapAll(in host: PagingTable) throws {
    let large = StalenessMemory.offset(ofFrame: StalenessTables.smallFrames)
    for (offset, length) in [(0, 2 << 20), (large, StalenessMemory.size - large)] {
      try map(offset, to: offset, length, in: host)
    }
    for frame in 0..<StalenessTables.smallFrames {
      let offset = StalenessMemory.offset(ofFrame: frame)
      try map(offset, to: offset, 4096, in: host)
    }
  }

  /// Maps the address of a small frame to the frame of the model.
  func map(_ frame: Int, _ tables: StalenessTables, in host: PagingTable) {
    let offset = Self.offset(ofFrame: frame)
    _ = host.unmap(IOVA(base + offset), length: 4096)
    #expect(throws: Never.self) {
      try map(offset, to: Self.offset(ofFrame: tables.host[frame]), 4096, in: host)
    }
  }

  private func map(
    _ offset: UInt64, to place: UInt64, _ length: UInt64, in host: PagingTable
  ) throws {
    let result = host.map(
      IOVA(base + offset), to: PhysicalAddress(start.rawValue + place), length: length,
      permissions: [.read, .write], snoops: false)
    try #require(result.error == nil)
  }
}

// A guest: memory of its own, behind a second stage that maps it page by page, and in it first-stage
// tables and the pages they lead to.

import CLinux
import CYardstick
import Glibc
import Host
import IOMMU
import IOMMUFD
import SystemPackage

final class NestedWorkload {
  private static let dataPages = 4_096
  private static let coldPages = 65_536
  private static let hotPages = 256
  /// One table maps 512 pages, or holds 512 tables.
  private static let tables = 3 + coldPages * 2 / 512

  private let memory: PhysicalMemory
  private let unit: VTdUnit
  private let host: VTdPagingDomain
  private let image: yardstick_memory
  private var first = yardstick_table()
  private var second = yardstick_table()
  private let hot: [UInt64]
  private let cold: [UInt64]

  init() throws {
    memory = try PhysicalMemory()
    unit = VTdUnit(VTdUnit.Configuration(), memory: memory)
    let driver = try VTdDriver(unit: unit, memory: memory)
    let requester = RequesterID(bus: 1, device: 0, function: 0)
    guard let host = try driver.makePagingDomain([], for: requester) as? VTdPagingDomain else {
      throw Errno.invalidArgument
    }
    self.host = host
    let pages = Self.dataPages + Self.tables
    let file = try OwnedDescriptor(checking: CLinux_memfd_create("bench", 1))
    guard ftruncate(file.rawValue, pages << 12) == 0 else { throw Errno(rawValue: errno) }
    let frames = try memory.pin(.file(file, offset: 0), pages: pages)[0].physical.rawValue
    for page in 0..<UInt64(pages) {
      try host.map(
        IOVA(page << 12), to: PhysicalAddress(frames + page << 12), length: 4096,
        permissions: [.read, .write])
    }
    let addresses = (0..<Self.coldPages).map { UInt64($0) << 13 }
    var random = UInt64(1)
    func shuffled(_ count: Int) -> [UInt64] {
      (0..<65_536).map { _ in
        random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return addresses[Int(random >> 33) % count] | (random >> 20 & 0x3f) << 4
      }
    }
    hot = shuffled(Self.hotPages)
    cold = shuffled(Self.coldPages)
    let memoryImage = memory.image
    image = yardstick_memory(
      base: memoryImage.base.assumingMemoryBound(to: UInt8.self),
      kinds: memoryImage.kinds.assumingMemoryBound(to: UInt8.self),
      frames: memoryImage.frameCount)
    Self.buildTables(of: addresses, in: memory, at: frames)
    describe(&first, root: UInt64(Self.dataPages) << 12, unit.firstStageReservedBits)
    describe(&second, root: host.root.rawValue, unit.secondStageReservedBits)
  }

  /// Present, writable, for everybody, used and written to.
  private static let flags: UInt64 = 0x67

  /// Tables follow the data: one of each upper level, then those that map pages.
  private static func buildTables(
    of addresses: [UInt64], in memory: PhysicalMemory, at frames: UInt64
  ) {
    let table = UInt64(dataPages) << 12
    func store(_ entry: UInt64, at guest: UInt64) {
      _ = withUnsafeBytes(of: entry) { memory.write($0, to: PhysicalAddress(frames + guest)) }
    }
    store(table + 0x1000 | flags, at: table)
    store(table + 0x2000 | flags, at: table + 0x1000)
    for (index, address) in addresses.enumerated() {
      let lowest = table + 0x3000 + (address >> 21) << 12
      store(lowest | flags, at: table + 0x2000 + address >> 21 * 8)
      let page = UInt64(index * 7 % dataPages) << 12
      store(page | flags, at: lowest + (address >> 12 & 511) * 8)
    }
  }

  private func describe(
    _ table: inout yardstick_table, root: UInt64, _ reserved: (table: [UInt64], leaf: [UInt64])
  ) {
    table.root = root
    table.last = 1 << 48 - 1
    table.top_level = 3
    withUnsafeMutableBytes(of: &table.reserved_in_table) { bytes in
      reserved.table.withUnsafeBytes { bytes.copyMemory(from: $0) }
    }
    withUnsafeMutableBytes(of: &table.reserved_in_leaf) { bytes in
      reserved.leaf.withUnsafeBytes { bytes.copyMemory(from: $0) }
    }
  }

  var rows: [Row] {
    [walks("nested walk, 256 pages", hot), walks("nested walk, 65,536 pages", cold)]
  }

  private func walks(_ name: String, _ addresses: [UInt64]) -> Row {
    Row(
      name: name, limit: 1.5, count: 262_144,
      yardstick: { [self] count in
        var (image, first, second) = (image, first, second)
        var sum: UInt64 = 0
        for _ in 0..<count / addresses.count {
          sum &+= yardstick_nested_walks(&image, &first, &second, addresses, addresses.count)
        }
        return sum
      },
      ours: { [self] count in
        var sum: UInt64 = 0
        for _ in 0..<count / addresses.count {
          sum &+= addresses.withUnsafeBufferPointer {
            unit.benchmarkNestedWalks(
              $0, first: PhysicalAddress(first.root), second: host.root)
          }
        }
        return sum
      })
  }
}

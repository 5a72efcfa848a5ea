// SPDX-License-Identifier: Apache-2.0

// Two-stage walks. The guest's memory is a memfd that a second-stage table maps page by page. It
// holds the data pages and, behind them, the guest's first-stage tables.

import CLinux
import CYardstick
import Glibc
import Host
import IOMMU
import IOMMUFD
import SystemPackage

final class NestedWorkload {
  private static let dataPages = 4_096
  /// The upper tables, and the tables of the lowest level. A table maps 512 pages, of which the
  /// lists use every second one.
  private static let tables = 3 + AddressLists.coldPages * 2 / 512

  private let memory: PhysicalMemory
  private let unit: VTdUnit
  private let host: VTdPagingDomain
  private let image: yardstick_memory
  private var first: yardstick_table
  private var second: yardstick_table
  private let addresses = AddressLists()

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
    image = yardstick_memory(memory)
    first = yardstick_table(
      root: PhysicalAddress(UInt64(Self.dataPages) << 12), unit.firstStageReservedBits)
    second = yardstick_table(root: host.root, unit.secondStageReservedBits)
    Self.buildTables(in: memory, at: frames)
  }

  /// Present, writable, user, accessed, dirty.
  private static let flags: UInt64 = 0x67

  /// Builds the first-stage tables behind the data: one table of each upper level, then the tables
  /// of the lowest level.
  private static func buildTables(in memory: PhysicalMemory, at frames: UInt64) {
    let table = UInt64(dataPages) << 12
    func store(_ entry: UInt64, at guest: UInt64) {
      _ = withUnsafeBytes(of: entry) { memory.write($0, to: PhysicalAddress(frames + guest)) }
    }
    store(table + 0x1000 | flags, at: table)
    store(table + 0x2000 | flags, at: table + 0x1000)
    for index in 0..<AddressLists.coldPages {
      let address = AddressLists.iova(ofPage: index)
      let lowest = table + 0x3000 + (address >> 21) << 12
      store(lowest | flags, at: table + 0x2000 + address >> 21 * 8)
      let page = UInt64(index * 7 % dataPages) << 12
      store(page | flags, at: lowest + (address >> 12 & 511) * 8)
    }
  }

  var rows: [Row] {
    [
      walks("nested walk, 256 pages", addresses.hot),
      walks("nested walk, 65,536 pages", addresses.cold),
    ]
  }

  private func walks(_ name: String, _ addresses: [UInt64]) -> Row {
    Row(
      name: name, limit: 1.5, count: 262_144,
      yardstick: { [self] count in
        var (image, first, second) = (image, first, second)
        return repeated(count / addresses.count) { _ in
          yardstick_nested_walks(&image, &first, &second, addresses, addresses.count)
        }
      },
      ours: { [self] count in
        repeated(count / addresses.count) { _ in
          addresses.withUnsafeBufferPointer {
            unit.benchmarkNestedWalks(
              $0, first: PhysicalAddress(first.root), second: host.root)
          }
        }
      })
  }
}

// SPDX-License-Identifier: Apache-2.0

// Page walks of the formats that the AMD-Vi and SMMUv3 units walk, on tables as their drivers build
// them.

import CYardstick
import IOMMU
import SystemPackage

final class FormatWorkload {
  private let memory: PhysicalMemory
  private let image: yardstick_memory
  private let addresses = AddressLists()

  init() throws {
    memory = try PhysicalMemory()
    image = yardstick_memory(memory)
  }

  func rows() throws -> [Row] {
    try WalkBenchmark.Format.allCases.flatMap { format in
      let walks = try FormatWalks(format, memory: memory)
      return [
        row(walks, "256 pages", addresses.hot), row(walks, "65,536 pages", addresses.cold),
      ]
    }
  }

  private func row(_ walks: FormatWalks, _ pages: String, _ addresses: [UInt64]) -> Row {
    Row(
      name: "\(walks.name) walk, \(pages)", limit: 1.3, count: 1_048_576,
      yardstick: { [image] count in
        var image = image
        return repeated(count / addresses.count) { _ in walks.yardstick(&image, addresses) }
      },
      ours: { count in
        repeated(count / addresses.count) { _ in
          addresses.withUnsafeBufferPointer { walks.benchmark.walks($0) }
        }
      })
  }
}

/// One page table, for the C side and the Swift side.
private final class FormatWalks {
  let benchmark: WalkBenchmark
  private let format: WalkBenchmark.Format
  private let table: PagingTable
  private var yardstickTable: yardstick_table

  var name: String {
    switch format {
    case .amdHost: "AMD host"
    case .armStage1: "Arm stage 1"
    case .armStage2: "Arm stage 2"
    }
  }

  init(_ format: WalkBenchmark.Format, memory: PhysicalMemory) throws {
    self.format = format
    table =
      switch format {
      case .amdHost: try PagingTable(amdv1Levels: 4, pageSizes: .max, memory: memory)
      case .armStage1: try PagingTable(vmsav8Stage1In: memory)
      case .armStage2: try PagingTable(vmsav8Stage2AddressBits: 48, memory: memory)
      }
    guard let benchmark = WalkBenchmark(format, root: table.root, memory: memory) else {
      throw Errno.invalidArgument
    }
    self.benchmark = benchmark
    yardstickTable = yardstick_table(root: table.root, benchmark.reservedBits)
    yardstickTable.forbidden = ~yardstickTable.last
    for page in 0..<AddressLists.coldPages {
      let frame = PhysicalAddress(1 << 32 + UInt64(page * 7 % 4096) << 12)
      let result = table.map(
        IOVA(AddressLists.iova(ofPage: page)), to: frame, length: 4096,
        permissions: [.read, .write], snoops: false)
      if let error = result.error { throw error }
    }
  }

  func yardstick(_ image: inout yardstick_memory, _ addresses: [UInt64]) -> UInt64 {
    let count = addresses.count
    return switch format {
    case .amdHost: yardstick_amd_walks(&image, &yardstickTable, addresses, count)
    case .armStage1: yardstick_arm_walks(&image, &yardstickTable, 1, addresses, count)
    case .armStage2: yardstick_arm_walks(&image, &yardstickTable, 2, addresses, count)
    }
  }
}

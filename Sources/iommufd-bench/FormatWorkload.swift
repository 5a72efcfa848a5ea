// Walks of the formats that the other units have, on tables as their drivers build them: 65,536 pages, mapped
// one by one and apart.

import CYardstick
import IOMMU
import SystemPackage

final class FormatWorkload {
  private static let pages = 65_536
  private static let hotPages = 256
  private let memory: PhysicalMemory
  private let image: yardstick_memory
  private let hot: [UInt64]
  private let cold: [UInt64]

  init() throws {
    memory = try PhysicalMemory()
    let memoryImage = memory.image
    image = yardstick_memory(
      base: memoryImage.base.assumingMemoryBound(to: UInt8.self),
      kinds: memoryImage.kinds.assumingMemoryBound(to: UInt8.self),
      frames: memoryImage.frameCount)
    var random = UInt64(1)
    func shuffled(_ count: Int) -> [UInt64] {
      (0..<65_536).map { _ in
        random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return UInt64(Int(random >> 33) % count) << 13 | (random >> 20 & 0x3f) << 4
      }
    }
    hot = shuffled(Self.hotPages)
    cold = shuffled(Self.pages)
  }

  func rows() throws -> [Row] {
    try WalkBenchmark.Format.allCases.flatMap { format in
      let walks = try FormatWalks(format, pages: Self.pages, memory: memory)
      return [
        row(walks, "256 pages", hot), row(walks, "65,536 pages", cold),
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

/// One table, for both sides.
private final class FormatWalks {
  let benchmark: WalkBenchmark
  private let format: WalkBenchmark.Format
  private let table: PagingTable
  private var described = yardstick_table()

  var name: String {
    switch format {
    case .amdHost: "AMD host"
    case .armStage1: "Arm stage 1"
    case .armStage2: "Arm stage 2"
    }
  }

  init(_ format: WalkBenchmark.Format, pages: Int, memory: PhysicalMemory) throws {
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
    for page in 0..<UInt64(pages) {
      let result = table.map(
        IOVA(page << 13), to: PhysicalAddress(1 << 32 + (page * 7 % 4096) << 12), length: 4096,
        permissions: [.read, .write], snoops: false)
      if let error = result.error { throw error }
    }
    described.root = table.root.rawValue
    described.last = 1 << 48 - 1
    described.top_level = 3
    described.forbidden = ~described.last
    let reserved = benchmark.reservedBits
    withUnsafeMutableBytes(of: &described.reserved_in_table) { bytes in
      reserved.table.withUnsafeBytes { bytes.copyMemory(from: $0) }
    }
    withUnsafeMutableBytes(of: &described.reserved_in_leaf) { bytes in
      reserved.leaf.withUnsafeBytes { bytes.copyMemory(from: $0) }
    }
  }

  func yardstick(_ image: inout yardstick_memory, _ addresses: [UInt64]) -> UInt64 {
    switch format {
    case .amdHost: yardstick_amd_walks(&image, &described, addresses, addresses.count)
    case .armStage1: yardstick_arm_walks(&image, &described, 1, addresses, addresses.count)
    case .armStage2: yardstick_arm_walks(&image, &described, 2, addresses, addresses.count)
    }
  }
}

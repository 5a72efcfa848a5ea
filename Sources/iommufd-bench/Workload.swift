// What is measured: one unit with one device, its domain, and a client's shared memory. Pages are
// mapped one by one and apart, so that walks go through all four levels.

import CLinux
import CYardstick
import Glibc
import Host
import IOMMU
import IOMMUFD
import SystemPackage

final class Workload {
  private static let hotPages = 256
  private static let coldPages = 65_536
  private static let dataPages = 4_096

  private let memory: PhysicalMemory
  private let unit: VTdUnit
  private let driver: VTdDriver
  private let domain: VTdPagingDomain
  private let port: DMAPort
  private let hot: [UInt64]
  private let cold: [UInt64]
  private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 64)
  private let iotlb: OpaquePointer
  private let yardstickPort: OpaquePointer
  private let yardstickDomain: OpaquePointer
  private let freeDomain: any PagingDomain
  private let image: yardstick_memory
  private var table = yardstick_table()
  /// The first id that a driver gives.
  private let id = DomainID(rawValue: 2)

  init() throws {
    memory = try PhysicalMemory()
    unit = VTdUnit(VTdUnit.Configuration(), memory: memory)
    driver = try VTdDriver(unit: unit, memory: memory)
    let requester = RequesterID(bus: 1, device: 0, function: 0)
    guard let domain = try driver.makePagingDomain([], for: requester) as? VTdPagingDomain else {
      throw Errno.invalidArgument
    }
    self.domain = domain
    freeDomain = try driver.makePagingDomain([], for: requester)
    try driver.attach(domain, to: requester, pasid: nil)
    port = DMAPort(requester: requester, vtd: unit)

    let file = try OwnedDescriptor(checking: CLinux_memfd_create("bench", 1))
    guard ftruncate(file.rawValue, Self.dataPages << 12) == 0 else {
      throw Errno(rawValue: errno)
    }
    let data = try memory.pin(.file(file, offset: 0), pages: Self.dataPages)[0].physical.rawValue
    var pages: [UInt64] = []
    for index in 0..<Self.coldPages {
      // Twice the page number: neighbours are not adjacent, and nothing is aligned.
      let iova = UInt64(index) << 13
      let frame = data + UInt64(index * 7 % Self.dataPages) << 12
      try domain.map(
        IOVA(iova), to: PhysicalAddress(frame), length: 4096, permissions: [.read, .write])
      pages.append(iova)
    }
    // Every frame is touched, so that no round pays for its first use.
    for page in 0..<Self.dataPages {
      _ = memory.read(PhysicalAddress(data + UInt64(page) << 12), into: buffer)
    }
    var random = UInt64(1)
    func shuffled(_ count: Int) -> [UInt64] {
      (0..<65_536).map { _ in
        random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return pages[Int(random >> 33) % count] | (random >> 20 & 0x3f) << 4
      }
    }
    hot = shuffled(Self.hotPages)
    cold = shuffled(Self.coldPages)

    let image = memory.image
    self.image = yardstick_memory(
      base: image.base.assumingMemoryBound(to: UInt8.self),
      kinds: image.kinds.assumingMemoryBound(to: UInt8.self), frames: image.frameCount)
    table.root = domain.root.rawValue
    table.top_level = 3
    let reserved = unit.secondStageReservedBits
    withUnsafeMutableBytes(of: &table.reserved_in_table) { bytes in
      reserved.table.withUnsafeBytes { bytes.copyMemory(from: $0) }
    }
    withUnsafeMutableBytes(of: &table.reserved_in_leaf) { bytes in
      reserved.leaf.withUnsafeBytes { bytes.copyMemory(from: $0) }
    }
    iotlb = yardstick_iotlb_make(128)
    var memoryImage = self.image
    yardstickPort = yardstick_port_make(
      &memoryImage, &table, UInt64(requester.rawValue), UInt64(id.rawValue), 128)
    yardstickDomain = yardstick_domain_make(4096)
    fillCaches()
  }

  private func fillCaches() {
    for address in Set(hot.map { $0 & ~0xfff }).sorted() {
      _ = port.read(IOVA(address), into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<64]))
      let frame = domain.physicalAddress(of: IOVA(address))?.rawValue ?? 0
      yardstick_iotlb_insert(iotlb, UInt64(id.rawValue), address, frame | 3)
    }
  }

  deinit {
    yardstick_iotlb_free(iotlb)
    yardstick_port_free(yardstickPort)
    yardstick_domain_free(yardstickDomain)
    buffer.deallocate()
  }

  var rows: [Row] {
    [
      lookups("IOTLB hit"),
      walks("4-level walk, 256 pages", hot),
      walks("4-level walk, 65,536 pages", cold),
      reads("DMA read 64 B, IOTLB hits", hot, 64),
      reads("DMA read 4 KiB, IOTLB hits", hot.map { $0 & ~0xfff }, 4096),
      reads("DMA read 64 B, mostly misses", cold, 64),
      mapping("map + unmap 4 KiB", length: 1 << 12, askew: 0, count: 50_000),
      mapping("map + unmap 2 MiB, one page", length: 1 << 21, askew: 0, count: 50_000),
      mapping("map + unmap 2 MiB, 512 pages", length: 1 << 21, askew: 1 << 12, count: 2_000),
    ]
  }

  private func lookups(_ name: String) -> Row {
    Row(
      name: name, limit: 1.3, count: 1_048_576,
      yardstick: { [self] count in
        repeated(count / hot.count) { _ in
          yardstick_iotlb_lookups(iotlb, UInt64(id.rawValue), hot, hot.count)
        }
      },
      ours: { [self] count in
        repeated(count / hot.count) { _ in
          hot.withUnsafeBufferPointer { unit.benchmarkLookups($0, domain: id) }
        }
      })
  }

  private func walks(_ name: String, _ addresses: [UInt64]) -> Row {
    Row(
      name: name, limit: 1.3, count: 1_048_576,
      yardstick: { [self] count in
        var (memory, table) = (image, table)
        return repeated(count / addresses.count) { _ in
          yardstick_walks(&memory, &table, addresses, addresses.count)
        }
      },
      ours: { [self] count in
        repeated(count / addresses.count) { _ in
          addresses.withUnsafeBufferPointer {
            unit.benchmarkWalks($0, root: domain.root, topLevel: 3)
          }
        }
      })
  }

  /// The checksum counts the requests that were completed.
  private func reads(_ name: String, _ addresses: [UInt64], _ size: Int) -> Row {
    let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<size])
    return Row(
      name: name, limit: 1.3, count: 262_144,
      yardstick: { [self] count in
        repeated(count) { index in
          yardstick_port_read(
            yardstickPort, addresses[index & 0xffff], part.baseAddress, size) == 0 ? 1 : 0
        }
      },
      ours: { [self] count in
        repeated(count) { index in
          if case .completed = port.read(IOVA(addresses[index & 0xffff]), into: part) {
            1
          } else {
            0
          }
        }
      })
  }

  /// The checksum is what was unmapped.
  private func mapping(_ name: String, length: UInt64, askew: UInt64, count: Int) -> Row {
    let iova: UInt64 = 1 << 40
    let physical = 1 << 34 + askew
    let permissions: Permissions = [.read, .write]
    return Row(
      name: name, limit: 1.25, count: count,
      yardstick: { [self] count in
        repeated(count) { _ in
          _ = yardstick_domain_map(yardstickDomain, iova, physical, length)
          return yardstick_domain_unmap(yardstickDomain, iova, length)
        }
      },
      ours: { [self] count in
        repeated(count) { _ in
          try? freeDomain.map(
            IOVA(iova), to: PhysicalAddress(physical), length: length, permissions: permissions)
          return freeDomain.unmap(IOVA(iova), length: length)
        }
      })
  }
}

/// The sum of `count` results. A plain loop: nothing else is to be measured.
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

// SPDX-License-Identifier: Apache-2.0

// IOTLB look-ups, walks and DMA requests of one device behind a VT-d unit, and map and unmap in its
// domain. The domain maps pages of a client's shared memory one by one.

import CLinux
import CYardstick
import Glibc
import Host
import IOMMU
import IOMMUFD
import SystemPackage

final class TranslationWorkload {
  private static let dataPages = 4_096

  private let memory: PhysicalMemory
  private let unit: VTdUnit
  private let driver: VTdDriver
  private let domain: VTdPagingDomain
  private let port: DMAPort
  private let addresses = AddressLists()
  private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 64)
  private let iotlb: OpaquePointer
  private let yardstickPort: OpaquePointer
  private let yardstickDomain: OpaquePointer
  /// A domain without devices, in which map and unmap are measured.
  private let unusedDomain: any PagingDomain
  private let image: yardstick_memory
  private let table: yardstick_table
  /// The first domain ID that the driver allocates.
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
    unusedDomain = try driver.makePagingDomain([], for: requester)
    try driver.attach(domain, to: requester, pasid: nil)
    port = DMAPort(requester: requester, vtd: unit)

    let file = try OwnedDescriptor(checking: CLinux_memfd_create("bench", 1))
    guard ftruncate(file.rawValue, Self.dataPages << 12) == 0 else {
      throw Errno(rawValue: errno)
    }
    let data = try memory.pin(.file(file, offset: 0), pages: Self.dataPages)[0].physical.rawValue
    for page in 0..<AddressLists.coldPages {
      let frame = data + UInt64(page * 7 % Self.dataPages) << 12
      try domain.map(
        IOVA(AddressLists.iova(ofPage: page)), to: PhysicalAddress(frame), length: 4096,
        permissions: [.read, .write])
    }
    // Reads every frame once, so that no round measures a first access.
    for page in 0..<Self.dataPages {
      _ = memory.read(PhysicalAddress(data + UInt64(page) << 12), into: buffer)
    }

    image = yardstick_memory(memory)
    table = yardstick_table(root: domain.root, unit.secondStageReservedBits)
    iotlb = yardstick_iotlb_make(128)
    var (image, table) = (image, table)
    yardstickPort = yardstick_port_make(
      &image, &table, UInt64(requester.rawValue), UInt64(id.rawValue), 128)
    yardstickDomain = yardstick_domain_make(4096)
    fillCaches()
  }

  private func fillCaches() {
    for address in Set(addresses.hot.map { $0 & ~0xfff }).sorted() {
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
      lookups("IOTLB hit", addresses.hot),
      walks("4-level walk, 256 pages", addresses.hot),
      walks("4-level walk, 65,536 pages", addresses.cold),
      reads("DMA read 64 B, IOTLB hits", addresses.hot, 64),
      reads("DMA read 4 KiB, IOTLB hits", addresses.hot.map { $0 & ~0xfff }, 4096),
      reads("DMA read 64 B, mostly misses", addresses.cold, 64),
      mapping("map + unmap 4 KiB", length: 1 << 12, misalignment: 0, count: 50_000),
      mapping("map + unmap 2 MiB, one page", length: 1 << 21, misalignment: 0, count: 50_000),
      mapping("map + unmap 2 MiB, 512 pages", length: 1 << 21, misalignment: 1 << 12, count: 2_000),
    ]
  }

  private func lookups(_ name: String, _ addresses: [UInt64]) -> Row {
    Row(
      name: name, limit: 1.3, count: 1_048_576,
      yardstick: { [self] count in
        repeated(count / addresses.count) { _ in
          yardstick_iotlb_lookups(iotlb, UInt64(id.rawValue), addresses, addresses.count)
        }
      },
      ours: { [self] count in
        repeated(count / addresses.count) { _ in
          addresses.withUnsafeBufferPointer { unit.benchmarkLookups($0, domain: id) }
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

  /// Returns a row of DMA reads. The checksum is the number of completed requests.
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

  /// Returns a row of map and unmap pairs. The checksum is the number of unmapped bytes.
  /// - Parameter misalignment: what the physical address is off the IOVA's alignment.
  private func mapping(_ name: String, length: UInt64, misalignment: UInt64, count: Int) -> Row {
    let iova: UInt64 = 1 << 40
    let physical = 1 << 34 + misalignment
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
          try? unusedDomain.map(
            IOVA(iova), to: PhysicalAddress(physical), length: length, permissions: permissions)
          return unusedDomain.unmap(IOVA(iova), length: length)
        }
      })
  }
}

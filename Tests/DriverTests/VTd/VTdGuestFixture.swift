// SPDX-License-Identifier: Apache-2.0

import CUAPI
import Glibc
import Host
import SystemPackage
import TestSupport
import UAPI

@testable import IOMMU
@testable import IOMMUFD

/// A VT-d unit with nesting and a guest. The guest's memory begins at address 0 and contains
/// first-stage tables that the test writes.
final class VTdGuestFixture {
  static let pages = 512
  let fixture: VTdFixture
  let parent: VTdPagingDomain
  private let memfd: OwnedDescriptor
  private let memory: UnsafeMutableRawPointer
  private var nextTable: UInt64 = 0x10_0000

  init(_ configuration: VTdUnit.Configuration = .nesting) throws {
    fixture = try VTdFixture(configuration)
    memfd = try makeNumberedMemfd(pages: Self.pages)
    memory = mmap(
      nil, Self.pages << 12, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.rawValue, 0)
    let domain = try fixture.driver.makePagingDomain([.nestParent, .pasid], for: .test(0))
    guard let parent = domain as? VTdPagingDomain else { throw Errno.invalidArgument }
    self.parent = parent
    var physical: UInt64 = 0
    for run in try fixture.memory.pin(.file(memfd, offset: 0), pages: Self.pages) {
      let length = UInt64(run.pages) << 12
      try parent.map(
        IOVA(physical), to: run.physical, length: length, permissions: [.read, .write])
      physical += length
    }
  }

  deinit { munmap(memory, Self.pages << 12) }

  subscript(address: UInt64) -> UInt64 {
    get { memory.load(fromByteOffset: Int(address), as: UInt64.self) }
    set { memory.storeBytes(of: newValue, toByteOffset: Int(address), as: UInt64.self) }
  }

  /// Returns the address of a table of zeros in the upper half of the memory.
  func makeTable() -> UInt64 {
    defer { nextTable += 4096 }
    memset(memory + Int(nextTable), 0, 4096)
    return nextTable
  }

  static let user: UInt64 = 7

  /// Returns the address of the entry that translates `iova`, and allocates missing tables above
  /// it.
  func entryAddress(_ iova: UInt64, in root: UInt64, level: Int = 0, levels: Int = 4) -> UInt64 {
    var table = root
    for at in (level..<levels).reversed() {
      let place = table + (iova >> UInt64(12 + 9 * at) & 511) * 8
      if at == level { return place }
      if self[place] & 1 == 0 { self[place] = makeTable() | Self.user }
      table = self[place] & 0xf_ffff_ffff_f000
    }
    return table
  }

  func map(_ iova: UInt64, to physical: UInt64, in root: UInt64, flags: UInt64 = user) {
    self[entryAddress(iova, in: root)] = physical | flags
  }

  func nested(
    _ root: UInt64, flags: UInt64 = 0, width: UInt32 = 48
  ) throws -> any NestedDomain {
    var data = iommu_hwpt_vtd_s1(
      flags: flags, pgtbl_addr: root, addr_width: width, __reserved: 0)
    return try withUnsafeBytes(of: &data) { bytes in
      try fixture.driver.makeNestedDomain(
        on: parent, for: .test(0), flags: .pasid,
        data: UserData(
          type: IOMMU_HWPT_DATA_VTD_S1.rawValue, address: bytes.clientAddress,
          length: UInt64(bytes.count), memory: InProcessClient()))
    }
  }

  func attach(
    _ domain: any Domain, _ device: UInt8 = 0, pasid: UInt32? = nil, requests: Bool = false
  ) throws {
    try fixture.driver.attach(
      DomainAttachment(domain, handlesPageRequests: requests), to: .test(device),
      pasid: pasid.map { PASID(rawValue: $0) }, replacing: nil)
  }

  func invalidate(
    _ domain: any NestedDomain, _ address: UInt64 = 0, pages: UInt64 = .max, flags: UInt32 = 0
  ) throws {
    var entry = iommu_hwpt_vtd_s1_invalidate(
      addr: address, npages: pages, flags: flags, __reserved: 0)
    var handled = 0
    try withUnsafeBytes(of: &entry) { bytes in
      try domain.invalidate(
        UserDataArray(
          type: IOMMU_HWPT_INVALIDATE_DATA_VTD_S1.rawValue, address: bytes.clientAddress,
          entryLength: bytes.count, count: 1, memory: InProcessClient()),
        handled: &handled)
    }
  }
}

extension UnsafeRawBufferPointer {
  fileprivate var clientAddress: UInt64 { UInt64(UInt(bitPattern: baseAddress)) }
}

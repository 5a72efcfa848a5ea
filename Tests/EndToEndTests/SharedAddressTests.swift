// SPDX-License-Identifier: Apache-2.0

import CUAPI
import IOMMUFD
import Machine
import SystemPackage
import TestSupport
import Testing
import UAPI

/// VFIO_IOMMU_BIND for two functions in one group: both use the page table, and each is bound on
/// its own.
@Suite("Guest page tables on PASIDs of a group")
struct SharedAddressTests {
  private let fixture: VFIOFixture
  private let functions: [DeviceClient]
  private let guest: GuestMemory

  /// Four levels of page tables at 0, 0x1000 and so on, which map address 0 to a page of data.
  private final class GuestMemory: Sendable {
    let memory = TestMemory(pages: 8)
    private static let data: UInt64 = 0x5000

    init() {
      for level in 0..<4 as Range<UInt64> {
        let next = level == 3 ? Self.data : (level + 1) << 12
        memory.store(next | 7, at: Int(level << 12))
      }
    }
  }

  init() throws {
    var description = MachineDescription.builtIn
    description.devices = (0..<2).map {
      .init(
        PCIAddress(bus: 4, function: $0), .atsTestDevice, unit: "dmar1", group: 4, pasidWidth: 20)
    }
    description.extensions = Extensions([.vfioSVA])
    fixture = try VFIOFixture(own: description)
    functions = [try fixture.bound(0), try fixture.bound(1)]
    guest = GuestMemory()
    let ioas = fixture.makeIOAS()
    var container = iommu_vfio_ioas()
    container.size = UInt32(MemoryLayout<iommu_vfio_ioas>.size)
    container.ioas_id = ioas
    container.op = UInt16(IOMMU_VFIO_IOAS_SET.rawValue)
    try #require(iommufd.call(.vfioIOAS, &container) == nil)
    try #require(iommufd.ioctl(.vfioSetIOMMU, UInt64(VFIO_TYPE1_NESTING_IOMMU)) == nil)
    try #require(fixture.map(guest.memory, on: ioas, at: 0) == nil)
    for function in functions {
      try #require(function.attach(ioas) == nil)
      try function.setConfig(4, UInt16(6))
    }
  }

  private var iommufd: DeviceClient { DeviceClient(fixture.client, fixture.iommufd) }

  private func allocate() throws -> UInt32 {
    let memory = TestMemory()
    memory.store([20, 1, 1, 100, 0] as InlineArray<5, UInt32>)
    try #require(iommufd.ioctl(.vfioIOMMUPASIDRequest, memory.address) == nil)
    return memory.load(UInt32.self, at: 16)
  }

  private func bind(_ pasid: UInt32, undoing: Bool = false) -> Errno? {
    var data = iommu_gpasid_bind_data()
    let size = MemoryLayout<iommu_gpasid_bind_data>.size
    data.argsz = UInt32(size)
    data.version = 1
    data.format = 1
    data.addr_width = 48
    data.hpasid = UInt64(pasid)
    let memory = TestMemory()
    memory.store(UInt32(8 + size))
    memory.store(UInt32(undoing ? 2 : 1), at: 4)
    withUnsafeBytes(of: data) { bytes in
      for (offset, byte) in bytes.enumerated() { memory.store(byte, at: 8 + offset) }
    }
    return iommufd.ioctl(.vfioIOMMUBind, memory.address)
  }

  /// Copies 8 bytes from the guest's address 0 and returns the status.
  private func fetch(_ function: DeviceClient, _ pasid: UInt32) throws -> UInt32 {
    try function.write(0, 0x10, pasid | 1 << 31)
    try function.write(0, 0x18, UInt32(8))
    try function.write(0, 0, UInt32(0))
    try function.write(0, 4, UInt32(0))
    try function.write(0, 8, UInt32(3))
    return try function.read(0, 0x14, as: UInt32.self)
  }

  @Test("both functions use the table, and it stays bound when one of them is closed")
  func aGroupSharesTheTable() throws {
    let pasid = try allocate()
    #expect(try fetch(functions[0], pasid) == 2)
    #expect(bind(pasid) == nil)
    #expect(try functions.map { try fetch($0, pasid) } == [1, 1])
    #expect(bind(pasid) == .resourceBusy)
    #expect(functions[0].detach() == nil)
    #expect(try fetch(functions[1], pasid) == 1, "the table is bound to the group")
    functions[0].close()
    #expect(try fetch(functions[1], pasid) == 1)
    #expect(bind(pasid, undoing: true) == nil)
    #expect(try fetch(functions[1], pasid) == 2)
    #expect(bind(pasid, undoing: true) == .invalidArgument)
    #expect(bind(pasid) == nil)
    functions[1].close()
    #expect(bind(pasid) == .invalidArgument, "no device is left")
  }

  @Test("closing all files unbinds a bound table")
  func everythingCloses() throws {
    let pasid = try allocate()
    #expect(bind(pasid) == nil)
    fixture.client.close(fixture.iommufd)
    #expect(try fetch(functions[0], pasid) == 1, "bound devices keep the iommufd")
    for function in functions { function.close() }
    let again = try fixture.client.add(fixture.machine.iommufd)
    let request = TestMemory()
    request.store([20, 1, pasid, pasid, 0] as InlineArray<5, UInt32>)
    #expect(
      DeviceClient(fixture.client, again).ioctl(.vfioIOMMUPASIDRequest, request.address) == nil)
    let device = try fixture.open(0)
    #expect(device.bind(again) == nil)
    #expect(try fetch(device, pasid) != 1)
  }
}

// SPDX-License-Identifier: Apache-2.0

import CUAPI
import IOMMU
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

/// Reserved regions and apertures of attached devices.
@Suite struct ReservedRegionTests {
  private let window: ClosedRange<UInt64> = 0xfee0_0000...0xfeef_ffff

  private func fixture() throws -> (DeviceFixture, PhysicalDevice) {
    let fixture = try DeviceFixture(RecordingDriver(aperture: 0...(1 << 39 - 1)))
    let device = fixture.device(0)
    fixture.driver.setReservedRegions(
      [
        .init(range: window, kind: .msi), .init(range: 0...0xfff, kind: .directRelaxable),
      ], of: device.requesterID)
    return (fixture, device)
  }

  private func ranges(_ fixture: DeviceFixture, _ ioas: ObjectID) throws -> [ClosedRange<UInt64>] {
    let context = try fixture.file.context
    return try context.lock.withLock { try context.ioas(ioas).pageTable.usableRanges }
  }

  @Test("an attach reserves the MSI window and the IOVAs outside the aperture")
  func windowAndAperture() throws {
    let (fixture, device) = try fixture()
    defer { fixture.file.close() }
    let ioas = try fixture.makeIOAS()
    let bound = try fixture.file.context.bind(device)
    var target = ioas
    try bound.attach(to: &target)
    #expect(try ranges(fixture, ioas) == [0...0xfedf_ffff, 0xfef0_0000...(1 << 39 - 1)])
    bound.detach()
    #expect(try ranges(fixture, ioas) == [0...UInt64.max])
    bound.unbind()
  }

  @Test(
    "an attach fails without a change when a reserved IOVA is mapped or allowed",
    arguments: [true, false])
  func inUse(isMapped: Bool) throws {
    let (fixture, device) = try fixture()
    defer { fixture.file.close() }
    let ioas = try fixture.makeIOAS()
    if isMapped {
      var command = iommu_ioas_map(
        size: 40, flags: 7, ioas_id: ioas.rawValue, __reserved: 0, user_va: 0x1000_0000,
        length: 0x1000, iova: 0xfee0_0000)
      #expect(fixture.file.call(.ioasMap, &command) == nil)
    } else {
      let array = TestMemory()
      array.store(iommu_iova_range(start: 0, last: 0xfee0_0000))
      var command = iommu_ioas_allow_iovas(
        size: 24, ioas_id: ioas.rawValue, num_iovas: 1, __reserved: 0,
        allowed_iovas: array.address)
      #expect(fixture.file.call(.ioasAllowIOVAs, &command) == nil)
    }
    let bound = try fixture.file.context.bind(device)
    var target = ioas
    #expect(throws: Errno.addressInUse) { try bound.attach(to: &target) }
    #expect(fixture.domain(of: device) == nil)
    #expect(try ranges(fixture, ioas) == [0...UInt64.max])
    #expect(fixture.file.destroy(ioas.rawValue) == nil)
    bound.unbind()
  }

  @Test("a replacement moves the reserved window from the old IOAS to the new one")
  func replace() throws {
    let (fixture, device) = try fixture()
    defer { fixture.file.close() }
    let (one, other) = (try fixture.makeIOAS(), try fixture.makeIOAS())
    let bound = try fixture.file.context.bind(device)
    var target = one
    try bound.attach(to: &target)
    let attached = try ranges(fixture, one)
    fixture.driver.failAttaches(with: .noMemory)
    target = other
    #expect(throws: Errno.noMemory) { try bound.replace(with: &target) }
    #expect(try ranges(fixture, one) == attached)
    #expect(try ranges(fixture, other) == [0...UInt64.max])
    fixture.driver.failAttaches(with: nil)
    try bound.replace(with: &target)
    #expect(try ranges(fixture, one) == [0...UInt64.max])
    #expect(try ranges(fixture, other) == attached)
    bound.detach()
    bound.unbind()
  }

  @Test("page sizes and mappings of the domain decide the answers of the container")
  func container() throws {
    let fixture = try DeviceFixture(RecordingDriver(enforcesCacheCoherency: false))
    defer { fixture.file.close() }
    let ioas = try fixture.makeIOAS()
    #expect(fixture.file.vfioIOAS(.set, ioas.rawValue) == .success(ioas.rawValue))
    #expect(fixture.file.call(.vfioCheckExtension, 4) == .success(1))
    let device = fixture.device(0)
    let bound = try fixture.file.context.bind(device)
    var target = ioas
    try bound.attach(to: &target)
    #expect(fixture.file.call(.vfioCheckExtension, 4) == .success(0), "no-snoop stays possible")
    var info = vfio_iommu_type1_info()
    info.argsz = 24
    #expect(fixture.file.call(.vfioIOMMUGetInfo, &info) == nil)
    #expect(info.flags == 3)
    #expect(info.iova_pgsizes == 0x4020_1000)
    #expect(info.cap_offset == 0)
    #expect(info.argsz == 24 + 16 + 16 + 16)
    let memory = TestMemory()
    memory.store(
      vfio_iommu_type1_dma_map(
        argsz: 32, flags: 3, vaddr: memory.address, iova: 0x10_0000, size: 4096))
    #expect(fixture.file.call(.vfioIOMMUMapDMA, memory.address) == .success(0))
    #expect(fixture.domain(of: device)?.mappedBytes == 4096)
    #expect(fixture.file.call(.vfioSetIOMMU, 1) == .failure(.invalidArgument))
    bound.detach()
    #expect(fixture.file.call(.vfioSetIOMMU, 1) == .success(0))
    bound.unbind()
  }
}

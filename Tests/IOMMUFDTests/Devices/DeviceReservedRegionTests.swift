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

  private func bench() throws -> (DeviceBench, PhysicalDevice) {
    let bench = try DeviceBench(RecordingDriver(aperture: 0...(1 << 39 - 1)))
    let device = bench.device(0)
    bench.driver.setReservedRegions(
      [
        .init(range: window, kind: .msi), .init(range: 0...0xfff, kind: .directRelaxable),
      ], of: device.requesterID)
    return (bench, device)
  }

  private func ranges(_ bench: DeviceBench, _ ioas: ObjectID) throws -> [ClosedRange<UInt64>] {
    let context = try bench.file.context
    return try context.lock.withLock { try context.ioas(ioas).pageTable.usableRanges }
  }

  @Test("an attach reserves the MSI window and the IOVAs outside the aperture")
  func windowAndAperture() throws {
    let (bench, device) = try bench()
    defer { bench.file.close() }
    let ioas = try bench.makeIOAS()
    let bound = try bench.file.context.bind(device)
    var target = ioas
    try bound.attach(to: &target)
    #expect(try ranges(bench, ioas) == [0...0xfedf_ffff, 0xfef0_0000...(1 << 39 - 1)])
    bound.detach()
    #expect(try ranges(bench, ioas) == [0...UInt64.max])
    bound.unbind()
  }

  @Test(
    "an attach fails without a change when a reserved IOVA is mapped or allowed",
    arguments: [true, false])
  func inUse(isMapped: Bool) throws {
    let (bench, device) = try bench()
    defer { bench.file.close() }
    let ioas = try bench.makeIOAS()
    if isMapped {
      var command = iommu_ioas_map(
        size: 40, flags: 7, ioas_id: ioas.rawValue, __reserved: 0, user_va: 0x1000_0000,
        length: 0x1000, iova: 0xfee0_0000)
      #expect(bench.file.call(.ioasMap, &command) == nil)
    } else {
      let array = TestMemory()
      array.store(iommu_iova_range(start: 0, last: 0xfee0_0000))
      var command = iommu_ioas_allow_iovas(
        size: 24, ioas_id: ioas.rawValue, num_iovas: 1, __reserved: 0,
        allowed_iovas: array.address)
      #expect(bench.file.call(.ioasAllowIOVAs, &command) == nil)
    }
    let bound = try bench.file.context.bind(device)
    var target = ioas
    #expect(throws: Errno.addressInUse) { try bound.attach(to: &target) }
    #expect(bench.domain(of: device) == nil)
    #expect(try ranges(bench, ioas) == [0...UInt64.max])
    #expect(bench.file.destroy(ioas.rawValue) == nil)
    bound.unbind()
  }

  @Test("a replacement moves the reserved window from the old IOAS to the new one")
  func replace() throws {
    let (bench, device) = try bench()
    defer { bench.file.close() }
    let (one, other) = (try bench.makeIOAS(), try bench.makeIOAS())
    let bound = try bench.file.context.bind(device)
    var target = one
    try bound.attach(to: &target)
    let attached = try ranges(bench, one)
    bench.driver.failAttaches(with: .noMemory)
    target = other
    #expect(throws: Errno.noMemory) { try bound.replace(with: &target) }
    #expect(try ranges(bench, one) == attached)
    #expect(try ranges(bench, other) == [0...UInt64.max])
    bench.driver.failAttaches(with: nil)
    try bound.replace(with: &target)
    #expect(try ranges(bench, one) == [0...UInt64.max])
    #expect(try ranges(bench, other) == attached)
    bound.detach()
    bound.unbind()
  }

  @Test("page sizes and mappings of the domain decide the answers of the container")
  func container() throws {
    let bench = try DeviceBench(RecordingDriver(enforcesCacheCoherency: false))
    defer { bench.file.close() }
    let ioas = try bench.makeIOAS()
    #expect(bench.file.vfioIOAS(.set, ioas.rawValue) == .success(ioas.rawValue))
    #expect(bench.file.call(.vfioCheckExtension, 4) == .success(1))
    let device = bench.device(0)
    let bound = try bench.file.context.bind(device)
    var target = ioas
    try bound.attach(to: &target)
    #expect(bench.file.call(.vfioCheckExtension, 4) == .success(0), "no-snoop stays possible")
    var info = vfio_iommu_type1_info()
    info.argsz = 24
    #expect(bench.file.call(.vfioIOMMUGetInfo, &info) == nil)
    #expect(info.flags == 3)
    #expect(info.iova_pgsizes == 0x4020_1000)
    #expect(info.cap_offset == 0)
    #expect(info.argsz == 24 + 16 + 16 + 16)
    let memory = TestMemory()
    memory.store(
      vfio_iommu_type1_dma_map(
        argsz: 32, flags: 3, vaddr: memory.address, iova: 0x10_0000, size: 4096))
    #expect(bench.file.call(.vfioIOMMUMapDMA, memory.address) == .success(0))
    #expect(bench.domain(of: device)?.mappedBytes == 4096)
    #expect(bench.file.call(.vfioSetIOMMU, 1) == .failure(.invalidArgument))
    bound.detach()
    #expect(bench.file.call(.vfioSetIOMMU, 1) == .success(0))
    bound.unbind()
  }
}

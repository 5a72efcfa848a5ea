// Every step of every scenario is made to fail once. A call that failed for it must have changed nothing,
// and after the last close nothing may be left: no frame, no table, no object, no device.

import CUAPI
import Host
import IOMMU
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

/// What a failed call must leave as it was.
private struct ContextState: Equatable {
  var users: [ObjectID: Int] = [:]
  var ids = 0
  var spaces: [ObjectID: Space] = [:]
  var attachments: [String: [ObjectID]] = [:]
  var pinnedFrames = 0

  struct Space: Equatable {
    let areas: Int
    let domains: Int
    let accesses: Int
    let accessPins: Int
    let hwpts: Int
    let reserved: [ClosedRange<UInt64>]
    let allowed: [ClosedRange<UInt64>]
    let alignment: UInt64
  }

  init(_ context: Context) {
    context.lock.withLock {
      ids = context.objects.count
      for object in context.objects.all(Object.self) { users[object.id] = object.users }
      for ioas in context.objects.all(IOAS.self) {
        let table = ioas.pageTable
        var accessPins = 0
        table.forEachArea { accessPins += Int($0.pins) }
        spaces[ioas.id] = Space(
          areas: table.areaCount, domains: table.domains.count,
          accesses: table.accesses.count, accessPins: accessPins, hwpts: ioas.hwpts.count,
          reserved: table.reservations.merged, allowed: table.allowed, alignment: table.alignment)
      }
      for group in context.groups.values {
        for (pasid, attachment) in group.attachments {
          attachments["\(group.group.id) \(pasid?.rawValue ?? 0)"] =
            [attachment.hwpt.id] + attachment.devices.keys.sorted()
        }
      }
    }
    pinnedFrames = context.memory.pinnedFrames
  }
}

/// An open file whose calls are watched.
private final class Sweep {
  let mock: MockFile
  private let context: Context
  private var descriptors: [Int32] = []
  /// Steps still to go.
  private(set) var countdown: UInt32

  init(failing step: UInt32) throws {
    mock = try MockFile()
    context = try mock.file.context
    countdown = step
  }

  /// - Throws: what the call fails with. One that a step failed has changed nothing.
  @discardableResult
  func call<T>(_ call: (MockFile) -> Result<T, Errno>) throws(Errno) -> T {
    let before = ContextState(context)
    let armed = countdown
    let result = FaultInjection.counting(down: &countdown) { call(mock) }
    if armed > 0, countdown == 0, case .failure(let error) = result {
      #expect(ContextState(context) == before, "\(error) of step \(armed)")
    }
    return try result.get()
  }

  func call(_ call: (MockFile) -> Errno?) throws(Errno) {
    try self.call { mock in call(mock).map { .failure($0) } ?? .success(()) }
  }

  /// A call that makes a descriptor.
  func open(_ call: (MockFile) -> Result<UInt32, Errno>) throws(Errno) -> UInt32 {
    let descriptor = try self.call(call)
    descriptors.append(Int32(bitPattern: descriptor))
    return descriptor
  }

  func closeLast() {
    if let descriptor = descriptors.popLast() { mock.file.client.close(descriptor) }
  }

  /// Nothing of the file is left after its last close.
  func close() throws {
    while !descriptors.isEmpty { closeLast() }
    mock.close()
    let driver = try #require(context.selftest?.driver)
    #expect(context.objects.isEmpty)
    #expect(context.groups.isEmpty)
    #expect(context.memory.pinnedFrames == 0)
    #expect(context.memory.tablePagesInUse == 0)
    #expect(try driver.plug([]).rawValue == 0)
  }
}

/// A run of calls that succeeds, each of them as often as steps can be made to fail.
private struct Scenario: Sendable, CustomTestStringConvertible {
  let testDescription: String
  /// Steps that there are at least: a scenario with fewer would not show what it is for.
  let leastSteps: UInt32
  let run: @Sendable (Sweep) throws(Errno) -> Void

  init(
    _ name: String, leastSteps: UInt32, _ run: @escaping @Sendable (Sweep) throws(Errno) -> Void
  ) {
    testDescription = name
    self.leastSteps = leastSteps
    self.run = run
  }
}

private let memory = TestMemory(pages: 64)
private let aperture = UInt64(MOCK_APERTURE_START)

extension MockFile {
  fileprivate func makeIOAS() -> Result<UInt32, Errno> {
    var command = iommu_ioas_alloc(size: 12, flags: 0, out_ioas_id: 0)
    if let error = file.call(.ioasAlloc, &command) { return .failure(error) }
    return .success(command.out_ioas_id)
  }

  fileprivate func copy(_ ioas: UInt32, from source: UInt64, to target: UInt64) -> Errno? {
    var command = iommu_ioas_copy(
      size: 40, flags: 7, dst_ioas_id: ioas, src_ioas_id: ioas, length: 4096,
      dst_iova: target, src_iova: source)
    return file.call(.ioasCopy, &command)
  }

  fileprivate func allow(_ ioas: UInt32, _ ranges: [iommu_iova_range]) -> Errno? {
    let memory = TestMemory()
    for (index, range) in ranges.enumerated() { memory.store(range, at: index * 16) }
    var command = iommu_ioas_allow_iovas()
    command.size = UInt32(MemoryLayout<iommu_ioas_allow_iovas>.size)
    command.ioas_id = ioas
    command.num_iovas = UInt32(ranges.count)
    command.allowed_iovas = memory.address
    return file.call(.ioasAllowIOVAs, &command)
  }

  fileprivate func unmap(_ ioas: UInt32, _ iova: UInt64, _ length: UInt64) -> Errno? {
    var command = iommu_ioas_unmap(size: 24, ioas_id: ioas, iova: iova, length: length)
    return file.call(.ioasUnmap, &command)
  }

  fileprivate func mapFile(_ ioas: UInt32, _ number: Int32, at iova: UInt64) -> Errno? {
    var command = iommu_ioas_map_file()
    command.size = UInt32(MemoryLayout<iommu_ioas_map_file>.size)
    (command.flags, command.ioas_id, command.fd) = (7, ioas, number)
    (command.length, command.iova) = (65536, iova)
    return file.call(.ioasMapFile, &command)
  }

  func replace(_ device: UInt32, with target: UInt32) -> Errno? {
    test(IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, id: device) { $0.mock_domain_replace.pt_id = target }
      .error
  }

  fileprivate func attach(_ device: UInt32, _ pasid: UInt32, to target: UInt32) -> Errno? {
    test(IOMMU_TEST_OP_PASID_ATTACH, id: device) {
      ($0.pasid_attach.pasid, $0.pasid_attach.pt_id) = (pasid, target)
    }.error
  }

  fileprivate func replace(_ device: UInt32, _ pasid: UInt32, with target: UInt32) -> Errno? {
    test(IOMMU_TEST_OP_PASID_REPLACE, id: device) {
      ($0.pasid_replace.pasid, $0.pasid_replace.pt_id) = (pasid, target)
    }.error
  }

  fileprivate func detach(_ device: UInt32, _ pasid: UInt32) -> Errno? {
    test(IOMMU_TEST_OP_PASID_DETACH, id: device) { $0.pasid_attach.pasid = pasid }.error
  }
}

extension MockFile {
  fileprivate func makeVirtualUnit(_ device: UInt32, on parent: UInt32) -> Result<UInt32, Errno> {
    let data = TestMemory()
    var command = iommu_viommu_alloc()
    command.size = UInt32(MemoryLayout<iommu_viommu_alloc>.size)
    (command.type, command.dev_id, command.hwpt_id) =
      (UInt32(IOMMU_VIOMMU_TYPE_SELFTEST), device, parent)
    (command.data_len, command.data_uptr) =
      (UInt32(MemoryLayout<iommu_viommu_selftest>.size), data.address)
    if let error = file.call(.viommuAlloc, &command) { return .failure(error) }
    return .success(command.out_viommu_id)
  }

  fileprivate func makeVirtualDevice(_ device: UInt32, on unit: UInt32) -> Result<UInt32, Errno> {
    var command = iommu_vdevice_alloc()
    command.size = UInt32(MemoryLayout<iommu_vdevice_alloc>.size)
    (command.viommu_id, command.dev_id, command.virt_id) = (unit, device, 0x99)
    if let error = file.call(.vdeviceAlloc, &command) { return .failure(error) }
    return .success(command.out_vdevice_id)
  }

  fileprivate func makeHardwareQueue(_ unit: UInt32, _ index: UInt32) -> Result<UInt32, Errno> {
    var command = iommu_hw_queue_alloc()
    command.size = UInt32(MemoryLayout<iommu_hw_queue_alloc>.size)
    (command.viommu_id, command.type, command.index) =
      (unit, UInt32(IOMMU_HW_QUEUE_TYPE_SELFTEST), index)
    (command.nesting_parent_iova, command.length) = (aperture, 4096)
    if let error = file.call(.hardwareQueueAlloc, &command) { return .failure(error) }
    return .success(command.out_hw_queue_id)
  }

  /// - Returns: the object, and its descriptor.
  fileprivate func makeFaultQueue() -> Result<(id: UInt32, descriptor: UInt32), Errno> {
    var command = iommu_fault_alloc(size: 16, flags: 0, out_fault_id: 0, out_fault_fd: 0)
    if let error = file.call(.faultQueueAlloc, &command) { return .failure(error) }
    return .success((command.out_fault_id, command.out_fault_fd))
  }

  /// - Returns: its descriptor.
  fileprivate func makeEventQueue(_ unit: UInt32) -> Result<UInt32, Errno> {
    var command = iommu_veventq_alloc()
    command.size = UInt32(MemoryLayout<iommu_veventq_alloc>.size)
    (command.viommu_id, command.type, command.veventq_depth) =
      (unit, UInt32(IOMMU_VEVENTQ_TYPE_SELFTEST), 2)
    if let error = file.call(.veventqAlloc, &command) { return .failure(error) }
    return .success(command.out_veventq_fd)
  }
}

private let scenarios: [Scenario] = [
  Scenario("address space", leastSteps: 10) { sweep throws(Errno) in
    let ioas = try sweep.call { $0.makeIOAS() }
    try sweep.call {
      $0.allow(ioas, [.init(start: 0, last: 0xffff_ffff), .init(start: 1 << 40, last: 1 << 41)])
    }
    try sweep.call { $0.map(ioas, memory, at: aperture) }
    try sweep.call { $0.copy(ioas, from: aperture, to: aperture * 2) }
    try sweep.call { $0.unmap(ioas, aperture, UInt64(memory.byteCount)) }
    try sweep.call { $0.destroy(ioas) }
  },
  Scenario("mapping with domains", leastSteps: 30) { sweep throws(Errno) in
    let ioas = try sweep.call { $0.makeIOAS() }
    let one = try sweep.call { $0.makeDevice(ioas) }
    let other = try sweep.call { $0.makeDevice(ioas, flags: UInt32(MOCK_FLAGS_DEVICE_PASID)) }
    try sweep.call { $0.allocate(one.bound, on: ioas) }
    try sweep.call { $0.map(ioas, memory, at: aperture) }
    try sweep.call { $0.copy(ioas, from: aperture, to: aperture * 2) }
    try sweep.call { $0.destroy(one.device) }
    try sweep.call { $0.unmap(ioas, aperture, UInt64(memory.byteCount)) }
    try sweep.call { $0.destroy(other.device) }
  },
  Scenario("domains of what is mapped", leastSteps: 20) { sweep throws(Errno) in
    let ioas = try sweep.call { $0.makeIOAS() }
    try sweep.call { $0.map(ioas, memory, at: aperture) }
    try sweep.call { $0.copy(ioas, from: aperture, to: aperture * 2) }
    let device = try sweep.call { $0.makeDevice(ioas) }
    try sweep.call { $0.allocate(device.bound, on: ioas) }
    try sweep.call { $0.destroy(device.device) }
    try sweep.call { $0.makeDevice(ioas) }
  },
  Scenario("file", leastSteps: 10) { sweep throws(Errno) in
    let file = OwnedDescriptor(owning: try MemoryFile.create(name: "sweep", length: 65536))
    let ioas = try sweep.call { $0.makeIOAS() }
    try sweep.call { $0.makeDevice(ioas) }
    try sweep.call { $0.mapFile(ioas, file.rawValue, at: aperture) }
    try sweep.call { $0.unmap(ioas, aperture, 65536) }
  },
  Scenario("access", leastSteps: 20) { sweep throws(Errno) in
    let (ioas, other) = (try sweep.call { $0.makeIOAS() }, try sweep.call { $0.makeIOAS() })
    let device = try sweep.call { $0.makeDevice(ioas) }
    try sweep.call { $0.map(ioas, memory, at: aperture) }
    let access = try sweep.open {
      $0.test(IOMMU_TEST_OP_CREATE_ACCESS, id: ioas) { $0.create_access.flags = 1 }
        .map { $0.create_access.out_access_fd }
    }
    let length = UInt64(memory.byteCount)
    let item = try sweep.call { mock in
      mock.test(IOMMU_TEST_OP_ACCESS_PAGES, id: access) {
        ($0.access_pages.iova, $0.access_pages.length) = (aperture, length)
        ($0.access_pages.flags, $0.access_pages.uptr) = (1, memory.address)
      }.map { $0.access_pages.out_access_pages_id }
    }
    try sweep.call { mock in
      mock.test(IOMMU_TEST_OP_DESTROY_ACCESS_PAGES, id: access) {
        $0.destroy_access_pages.access_pages_id = item
      }
    }
    try sweep.call { $0.destroy(device.device) }
    for flags in [UInt32(MOCK_ACCESS_RW_WRITE), UInt32(MOCK_ACCESS_RW_SLOW_PATH)] {
      try sweep.call { mock in
        mock.test(IOMMU_TEST_OP_ACCESS_RW, id: access) {
          ($0.access_rw.iova, $0.access_rw.length) = (aperture + 100, 8192)
          ($0.access_rw.flags, $0.access_rw.uptr) = (flags, memory.address)
        }
      }
    }
    try sweep.call { mock in
      mock.test(IOMMU_TEST_OP_ACCESS_REPLACE_IOAS, id: access) {
        $0.access_replace_ioas.ioas_id = other
      }
    }
    sweep.closeLast()
    try sweep.call { $0.destroy(other) }
  },
  Scenario("attach and replace", leastSteps: 40) { sweep throws(Errno) in
    let pasids = UInt32(IOMMU_HWPT_ALLOC_PASID.rawValue)
    let (one, other) = (try sweep.call { $0.makeIOAS() }, try sweep.call { $0.makeIOAS() })
    try sweep.call { $0.map(one, memory, at: aperture) }
    try sweep.call { $0.map(other, memory, at: aperture) }
    let device = try sweep.call { $0.makeDevice(one, flags: UInt32(MOCK_FLAGS_DEVICE_PASID)) }
    try sweep.call { $0.replace(device.device, with: other) }
    let table = try sweep.call { $0.allocate(device.bound, on: one, flags: pasids) }
    try sweep.call { $0.replace(device.device, with: table) }
    let parent = try sweep.call {
      $0.allocate(device.bound, on: one, flags: pasids | IOMMU_HWPT_ALLOC_NEST_PARENT.rawValue)
    }
    let nested = try sweep.call { $0.nest(device.bound, on: parent) }
    try sweep.call { $0.attach(device.device, 200, to: table) }
    try sweep.call { $0.replace(device.device, 200, with: parent) }
    try sweep.call { $0.detach(device.device, 200) }
    try sweep.call { $0.replace(device.device, with: nested) }
    try sweep.call { $0.destroy(device.device) }
  },
  Scenario("virtual unit and queues", leastSteps: 40) { sweep throws(Errno) in
    let ioas = try sweep.call { $0.makeIOAS() }
    try sweep.call { $0.map(ioas, memory, at: aperture) }
    let device = try sweep.call { $0.makeDevice(ioas) }
    let parent = try sweep.call {
      $0.allocate(device.bound, on: ioas, flags: IOMMU_HWPT_ALLOC_NEST_PARENT.rawValue)
    }
    let unit = try sweep.call { $0.makeVirtualUnit(device.bound, on: parent) }
    let virtualDevice = try sweep.call { $0.makeVirtualDevice(device.bound, on: unit) }
    try sweep.call { $0.makeHardwareQueue(unit, 0) }
    try sweep.call { $0.makeHardwareQueue(unit, 1) }
    var faults: UInt32 = 0
    _ = try sweep.open { mock in
      mock.makeFaultQueue().map { queue in
        faults = queue.id
        return queue.descriptor
      }
    }
    let nested = try sweep.call { [faults] in
      $0.allocate(
        device.bound, on: unit, flags: IOMMU_HWPT_FAULT_ID_VALID.rawValue,
        type: UInt32(IOMMU_HWPT_DATA_SELFTEST), data: [7], fault: faults)
    }
    _ = try sweep.open { $0.makeEventQueue(unit) }
    try sweep.call { $0.replace(device.device, with: nested) }
    try sweep.call {
      $0.test(IOMMU_TEST_OP_TRIGGER_IOPF) { $0.trigger_iopf.dev_id = device.bound }
    }
    try sweep.call {
      $0.test(IOMMU_TEST_OP_TRIGGER_VEVENT) { $0.trigger_vevent.dev_id = device.bound }
    }
    try sweep.call { $0.replace(device.device, with: ioas) }
    // With its device it would leave a tombstone, which is what a client gets for it.
    try sweep.call { $0.destroy(virtualDevice) }
    try sweep.call { $0.destroy(device.device) }
  },
]

@Suite struct FaultInjectionTests {
  @Test(arguments: scenarios)
  fileprivate func everyStepFails(_ scenario: Scenario) throws {
    for step in UInt32(1)... {
      let sweep = try Sweep(failing: step)
      var failure: Errno?
      do throws(Errno) { try scenario.run(sweep) } catch { failure = error }
      let hasFired = sweep.countdown == 0
      try sweep.close()
      if hasFired { continue }
      #expect(failure == nil, "nothing was made to fail")
      #expect(step > scenario.leastSteps)
      return
    }
  }

  /// The number belongs to the thread, is exact between calls, and is spent when it has fired.
  @Test func countdown() throws {
    let file = try ControlFile()
    defer { file.close() }
    var countdown: UInt32 = 3
    func make() -> Errno? {
      var command = iommu_ioas_alloc(size: 12, flags: 0, out_ioas_id: 0)
      return FaultInjection.counting(down: &countdown) { file.call(.ioasAlloc, &command) }
    }
    #expect(make() == nil)
    #expect(countdown == 2)
    #expect(make() == nil)
    #expect(try file.makeIOAS() == 3)
    #expect(countdown == 1)
    #expect(make() == .noMemory)
    #expect(countdown == 0)
    #expect(make() == nil)
  }
}

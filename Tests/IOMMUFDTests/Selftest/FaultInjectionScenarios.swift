// SPDX-License-Identifier: Apache-2.0

// The scenarios of ``FaultInjectionTests``: sequences of calls that succeed when no step is made to
// fail.

import CUAPI
import Host
import IOMMU
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

/// A sequence of calls that succeeds when no step fails. Each call is repeated for each of its
/// steps.
struct Scenario: Sendable, CustomTestStringConvertible {
  let testDescription: String
  /// The minimum number of steps. A scenario with fewer steps does not cover its calls.
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

let everyScenario: [Scenario] = [
  Scenario("address space", leastSteps: 10) { sweep throws(Errno) in
    let ioas = try sweep.call { $0.makeIOAS() }
    try sweep.call {
      $0.allow(ioas, [.init(start: 0, last: 0xffff_ffff), .init(start: 1 << 40, last: 1 << 41)])
    }
    try sweep.call { $0.map(ioas, memory, at: aperture) }
    try sweep.call { $0.copy(ioas, from: aperture, to: aperture * 2) }
    try sweep.call { $0.unmap(ioas, at: aperture, length: UInt64(memory.byteCount)) }
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
    try sweep.call { $0.unmap(ioas, at: aperture, length: UInt64(memory.byteCount)) }
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
    try sweep.call { $0.unmap(ioas, at: aperture, length: 65536) }
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
  Scenario("vIOMMU and queues", leastSteps: 40) { sweep throws(Errno) in
    let ioas = try sweep.call { $0.makeIOAS() }
    try sweep.call { $0.map(ioas, memory, at: aperture) }
    let device = try sweep.call { $0.makeDevice(ioas) }
    let parent = try sweep.call {
      $0.allocate(device.bound, on: ioas, flags: IOMMU_HWPT_ALLOC_NEST_PARENT.rawValue)
    }
    let viommu = try sweep.call { $0.makeVIOMMU(for: device.bound, on: parent, data: TestMemory()) }
    let virtualDevice = try sweep.call { $0.makeVirtualDevice(device.bound, on: viommu, 0x99) }
    try sweep.call { $0.makeHardwareQueue(on: viommu, index: 0, at: aperture, length: 4096) }
    try sweep.call { $0.makeHardwareQueue(on: viommu, index: 1, at: aperture, length: 4096) }
    let faults = try sweep.openQueue { $0.makeFaultQueue() }
    let nested = try sweep.call {
      $0.allocate(
        device.bound, on: viommu, flags: IOMMU_HWPT_FAULT_ID_VALID.rawValue,
        type: UInt32(IOMMU_HWPT_DATA_SELFTEST), data: [7], fault: faults)
    }
    _ = try sweep.openQueue { $0.makeEventQueue(on: viommu, depth: 2) }
    try sweep.call { $0.replace(device.device, with: nested) }
    try sweep.call {
      $0.test(IOMMU_TEST_OP_TRIGGER_IOPF) { $0.trigger_iopf.dev_id = device.bound }
    }
    try sweep.call {
      $0.test(IOMMU_TEST_OP_TRIGGER_VEVENT) { $0.trigger_vevent.dev_id = device.bound }
    }
    try sweep.call { $0.replace(device.device, with: ioas) }
    // Destroyed with its device, the vDEVICE would leave a tombstone.
    try sweep.call { $0.destroy(virtualDevice) }
    try sweep.call { $0.destroy(device.device) }
  },
]

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

  fileprivate func mapFile(_ ioas: UInt32, _ number: Int32, at iova: UInt64) -> Errno? {
    var command = iommu_ioas_map_file()
    command.size = UInt32(MemoryLayout<iommu_ioas_map_file>.size)
    (command.flags, command.ioas_id, command.fd) = (7, ioas, number)
    (command.length, command.iova) = (65536, iova)
    return file.call(.ioasMapFile, &command)
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

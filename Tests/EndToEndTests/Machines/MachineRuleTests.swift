// SPDX-License-Identifier: Apache-2.0

import CUAPI
import IOMMU
import IOMMUFD
import Machine
import SystemPackage
import TestSupport
import Testing
import UAPI

/// Rules of the kernel's drivers that depend on the description of the machine.
@Suite("rules that the machine description decides")
struct MachineRuleTests {
  private static let iova: UInt64 = 0x10_0000

  /// A machine with one device behind one unit.
  private func machine(_ unit: String, _ device: String = "group: 1") throws -> VFIOFixture {
    let text = """
      units: [{name: u, \(unit)}]
      devices: [{address: "01:00.0", model: pcie-ats-testdev, unit: u, \(device)}]
      """
    return try VFIOFixture(own: MachineFile.read(text, named: "m"))
  }

  private func bound(_ fixture: VFIOFixture) throws -> (client: DeviceClient, id: UInt32) {
    let client = try fixture.open()
    let id = try fixture.bind(client).get()
    try client.setConfig(4, UInt16(6))
    return (client, id)
  }

  private func status(_ device: DeviceClient) throws -> UInt32 {
    try device.read(0, 0x14, as: UInt32.self)
  }

  /// arm-smmu-v3: arm_smmu_probe_device()
  @Test("a unit that stalls every fault stalls the faults of a device without 'stalls' too")
  func forcedStalls() throws {
    let fixture = try machine("kind: smmuv3, stall-model: stall")
    let device = try bound(fixture)
    let ioas = fixture.makeIOAS()
    let queue = try fixture.makeFaultQueue().get()
    let hwpt = try fixture.allocate(
      device.id, on: ioas, IOMMU_HWPT_FAULT_ID_VALID.rawValue, fault: queue.id
    ).get()
    #expect(device.client.attach(hwpt) == nil)
    try? device.client.copy(.toMemory, Self.iova)
    #expect(try status(device.client) == 0, "the copy waits")
    let memory = TestMemory()
    memory.fill(0x55)
    #expect(fixture.map(memory, on: ioas, at: Self.iova) == nil)
    let file = try #require(fixture.client.file(queue.file.number))
    let record = TestMemory()
    let buffer = UserBuffer(memory: fixture.client, address: record.address, count: 40)
    #expect(try file.read(into: buffer, at: 0) == 40)
    record.store([record.load(UInt32.self, at: 36), 0] as InlineArray<2, UInt32>)
    let answer = UserBuffer(memory: fixture.client, address: record.address, count: 8)
    #expect(try file.write(from: answer, at: 0) == 8)
    #expect(try status(device.client) == 1)
    #expect(memory.bytes.allSatisfy { $0 == 0 })
  }

  /// The unit terminates every fault, so the driver ignores that the device can stall.
  @Test("behind a unit that terminates every fault a device with 'stalls' works")
  func terminatedFaults() throws {
    let fixture = try machine("kind: smmuv3, stall-model: terminate", "group: 1, stalls: true")
    let device = try bound(fixture)
    let ioas = fixture.makeIOAS()
    let memory = TestMemory()
    memory.fill(0x55)
    #expect(fixture.map(memory, on: ioas, at: Self.iova) == nil)
    #expect(device.client.attach(ioas) == nil)
    try device.client.copy(.toMemory, Self.iova)
    #expect(memory.bytes.allSatisfy { $0 == 0 })
    try device.client.copy(.toMemory, Self.iova + 0x1000)
    #expect(try status(device.client) == 2)
  }

  /// io-pgtable-arm: arm_lpae_restrict_pgsizes(); iommufd: iopt_table_add_domain()
  @Test(
    "a unit without granules of 4 KiB has no page table for an IOAS",
    arguments: ["[14]", "[16]", "[14, 16]"])
  func largeGranules(granules: String) throws {
    let fixture = try machine("kind: smmuv3, granules: \(granules)")
    let device = try bound(fixture)
    let ioas = fixture.makeIOAS()
    #expect(device.client.attach(ioas) == .invalidArgument)
    for flags in [0, 1, 2, 8] as [UInt32] {
      #expect(fixture.allocate(device.id, on: ioas, flags).error == .invalidArgument)
    }
    #expect(fixture.allocate(device.id, on: ioas, 3).error == .notSupported)
  }

  /// arm-smmu-v3: arm_smmu_device_iidr_probe()
  @Test(
    "an implementation with errata has no nesting",
    arguments: [
      (0x4831_043b, false), (0x4832_043b, true), (0x4870_143b, false), (0x4871_043b, false),
      (0x4871_143b, true), (0x4831_043c, true),
    ])
  func errata(implementation: UInt32, nests: Bool) throws {
    let fixture = try machine("kind: smmuv3, implementation: \(implementation)")
    let device = try bound(fixture)
    let hwpt = fixture.allocate(device.id, on: fixture.makeIOAS(), 1)
    #expect(hwpt.error == (nests ? nil : .notSupported))
    let viommu = fixture.makeVirtualIOMMU(device.id, on: (try? hwpt.get()) ?? 99, type: 1)
    #expect(viommu.error == (nests ? nil : .notSupported))
  }

  /// iommufd: iommufd_hwpt_nested_alloc() looks for the driver's operation before it looks at the
  /// parent.
  @Test(
    "without nested domains on a parent a nested HWPT is EOPNOTSUPP whatever the parent is",
    arguments: [("smmuv3", 2), ("amdvi", 3), ("vtd, first-stage: true, nested: true", 1)])
  func nestedWithoutVirtualIOMMU(kind: String, type: UInt32) throws {
    let fixture = try machine("kind: \(kind)")
    let device = try bound(fixture)
    let expected: Errno = type == 1 ? .invalidArgument : .notSupported
    let ioas = fixture.makeIOAS()
    let data = TestMemory()
    let other = try fixture.allocate(device.id, on: ioas).get()
    #expect(device.client.attach(other) == nil)
    for parent in [other, try automatic(fixture, device.client)] {
      let nested = fixture.allocate(
        device.id, on: parent, type: type, data: (data.address, 32))
      #expect(nested.error == expected)
      let flagged = fixture.allocate(
        device.id, on: parent, 1, type: type, data: (data.address, 32))
      #expect(flagged.error == .notSupported)
    }
  }

  /// The ID of an automatic HWPT.
  private func automatic(_ fixture: VFIOFixture, _ device: DeviceClient) throws -> UInt32 {
    var command = vfio_device_attach_iommufd_pt()
    command.argsz = 12
    command.pt_id = fixture.makeIOAS()
    let failure = device.call(.vfioDeviceAttachIOMMUFDPageTable, &command)
    try #require(failure == nil)
    return command.pt_id
  }

  /// iommu: iommu_attach_device_pasid()
  @Test("a driver that attaches no PASID refuses it before the PASID is compared with the device's")
  func pasidPrecedence() throws {
    for (unit, pasids, expected) in [
      ("kind: amdvi", 0, Errno.notSupported), ("kind: amdvi", 4, .notSupported),
      ("kind: smmuv3", 4, .invalidArgument), ("kind: smmuv3", 0, nil),
      ("kind: smmuv3, substream-bits: 0", 4, .invalidArgument), ("kind: vtd", 4, .invalidArgument),
      ("kind: vtd, pasid-bits: 0", 4, nil),
    ] as [(String, Int, Errno?)] {
      let fixture = try machine(unit, "group: 1, pasid-bits: \(pasids)")
      let device = try bound(fixture)
      let hwpt = try fixture.allocate(device.id, on: fixture.makeIOAS(), 8).get()
      #expect(device.client.attach(hwpt, pasid: 100) == expected, "\(unit), \(pasids)")
    }
  }

  /// iommu: dev_iommu_get_max_pasids()
  @Test("a device with more PASIDs than its unit has those of the unit")
  func fewerPASIDsOfTheUnit() throws {
    for unit in ["kind: vtd, pasid-bits: 8", "kind: smmuv3, substream-bits: 8"] {
      let fixture = try machine(unit, "group: 1, pasid-bits: 20")
      #expect(fixture.machine.devices[0].physical.pasidWidth == 8)
      let device = try bound(fixture)
      let hwpt = try fixture.allocate(device.id, on: fixture.makeIOAS(), 8).get()
      #expect(device.client.attach(hwpt, pasid: 255) == nil)
      #expect(device.client.attach(hwpt, pasid: 256) == .invalidArgument)
    }
  }
}

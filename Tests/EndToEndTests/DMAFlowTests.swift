// SPDX-License-Identifier: Apache-2.0

import IOMMU
import Machine
import PCI
import SystemPackage
import TestSupport
import Testing

@Suite("DMA goes through the page table that the device is attached to")
struct DMAFlowTests {
  private let iova: UInt64 = 0x10_0000

  @Test("copies move memory both ways until the page is unmapped or the device is detached")
  func flow() throws {
    let fixture = try VFIOFixture()
    let device = try fixture.bound()
    let ioas = fixture.makeIOAS()
    let source = TestMemory()
    let target = TestMemory()
    source.bytes.copyBytes(from: (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 7) })
    #expect(device.attach(ioas) == nil)
    #expect(fixture.map(source, on: ioas, at: iova) == nil)
    #expect(fixture.map(target, on: ioas, at: iova + 0x1000) == nil)
    try device.setConfig(4, UInt16(6))

    try device.copy(.toDevice, iova)
    try device.copy(.toMemory, iova + 0x1000)
    #expect(target.bytes.elementsEqual(source.bytes))

    #expect(fixture.unmap(4096, on: ioas, at: iova + 0x1000) == nil)
    target.fill(0xee)
    try device.copy(.toMemory, iova + 0x1000)
    #expect(target.bytes.allSatisfy { $0 == 0xee })

    #expect(device.detach() == nil)
    source.fill(0x11)
    try device.copy(.toMemory, iova)
    #expect(source.bytes.allSatisfy { $0 == 0x11 })
  }

  @Test("a device without bus mastering moves no byte")
  func busMaster() throws {
    let fixture = try VFIOFixture()
    let device = try fixture.bound()
    let memory = try fixture.page(0xaa, at: iova, of: device)
    try device.copy(.toMemory, iova)
    #expect(memory.bytes.allSatisfy { $0 == 0xaa })
    try device.setConfig(4, UInt16(6))
    try device.copy(.toMemory, iova)
    #expect(memory.bytes.allSatisfy { $0 == 0 })
  }

  @Test("close detaches the device and restores configuration space")
  func close() throws {
    let fixture = try VFIOFixture()
    let device = try fixture.bound()
    let ioas = fixture.makeIOAS()
    #expect(device.attach(ioas) == nil)
    let requester = fixture.machine.devices[0].function.requester
    #expect(fixture.driver.domain(of: requester) != nil)
    device.close()
    #expect(fixture.driver.domain(of: requester) == nil)
    let again = try fixture.bound()
    #expect(try again.config(4, as: UInt16.self) == 2)
  }

  @Test("a bound device keeps the iommufd after its descriptor has been closed")
  func iommufdFirst() throws {
    let fixture = try VFIOFixture()
    let device = try fixture.bound()
    let memory = try fixture.page(0xaa, at: iova, of: device)
    fixture.client.close(fixture.iommufd)
    try device.setConfig(4, UInt16(6))
    try device.copy(.toMemory, iova)
    #expect(memory.bytes.allSatisfy { $0 == 0 })
    device.close()
    #expect(fixture.driver.domain(of: fixture.machine.devices[0].function.requester) == nil)
  }

  @Test("PASIDs are attached on their own, and close detaches all of them")
  func pasids() throws {
    var description = self.description(pasidWidth: 16)
    description.devices[1].pasidWidth = 0
    let fixture = try VFIOFixture(description)
    let device = try fixture.bound()
    let requester = fixture.machine.devices[0].function.requester
    let ioas = fixture.makeIOAS()
    // A page table made for an IOAS has no PASID flag, so iommufd refuses the attach.
    #expect(device.attach(ioas, pasid: 5) == .invalidArgument)
    #expect(fixture.driver.domain(of: requester, pasid: PASID(rawValue: 5)) == nil)
    #expect(device.detach(pasid: 5) == nil)
    #expect(device.attach(ioas, pasid: UInt32(Int32.max) + 1) == .noSpace)
    // PASID 0 means the device without PASID.
    #expect(device.attach(ioas, pasid: 0) == nil)
    #expect(fixture.driver.domain(of: requester) != nil)
    device.close()
    #expect(fixture.driver.domain(of: requester) == nil)
  }

  private func description(pasidWidth: Int) -> MachineDescription {
    var description = MachineDescription.builtIn
    description.devices[0].pasidWidth = pasidWidth
    return description
  }
}

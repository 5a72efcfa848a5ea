import IOMMU
import Machine
import PCI
import SystemPackage
import TestSupport
import Testing

@testable import VFIO

@Suite("DMA goes through the page table that the device is attached to")
struct DMAFlowTests {
  private let iova: UInt64 = 0x10_0000

  @Test("copies move memory both ways until the page is unmapped or the device is detached")
  func flow() throws {
    let rig = try Rig()
    let device = try rig.bound()
    let ioas = rig.makeIOAS()
    let source = TestMemory()
    let target = TestMemory()
    source.bytes.copyBytes(from: (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 7) })
    #expect(device.attach(ioas) == nil)
    #expect(rig.map(source, on: ioas, at: iova) == nil)
    #expect(rig.map(target, on: ioas, at: iova + 0x1000) == nil)
    try device.setConfig(4, UInt16(6))

    try device.copy(.toDevice, iova)
    try device.copy(.toMemory, iova + 0x1000)
    #expect(target.bytes.elementsEqual(source.bytes))

    #expect(rig.unmap(4096, on: ioas, at: iova + 0x1000) == nil)
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
    let rig = try Rig()
    let device = try rig.bound()
    let memory = rig.page(0xaa, at: iova, of: device)
    try device.copy(.toMemory, iova)
    #expect(memory.bytes.allSatisfy { $0 == 0xaa })
    try device.setConfig(4, UInt16(6))
    try device.copy(.toMemory, iova)
    #expect(memory.bytes.allSatisfy { $0 == 0 })
  }

  @Test("close detaches the device and restores configuration space")
  func close() throws {
    let rig = try Rig()
    let device = try rig.bound()
    let ioas = rig.makeIOAS()
    #expect(device.attach(ioas) == nil)
    let requester = rig.machine.devices[0].function.requester
    #expect(rig.driver.domain(of: requester) != nil)
    device.close()
    #expect(rig.driver.domain(of: requester) == nil)
    let again = try rig.bound()
    #expect(try again.config(4, as: UInt16.self) == 2)
  }

  @Test("a bound device keeps the iommufd after its descriptor has been closed")
  func iommufdFirst() throws {
    let rig = try Rig()
    let device = try rig.bound()
    let memory = rig.page(0xaa, at: iova, of: device)
    rig.client.close(rig.iommufd)
    try device.setConfig(4, UInt16(6))
    try device.copy(.toMemory, iova)
    #expect(memory.bytes.allSatisfy { $0 == 0 })
    device.close()
    #expect(rig.driver.domain(of: rig.machine.devices[0].function.requester) == nil)
  }

  @Test("PASIDs are attached on their own, and close detaches all of them")
  func pasids() throws {
    var description = rig(pasidWidth: 16)
    description.devices[1].pasidWidth = 0
    let rig = try Rig(description)
    let device = try rig.bound()
    let requester = rig.machine.devices[0].function.requester
    let ioas = rig.makeIOAS()
    // A page table made for an IOAS has no PASID flag, so iommufd refuses the attach.
    #expect(device.attach(ioas, pasid: 5) == .invalidArgument)
    #expect(rig.driver.domain(of: requester, pasid: PASID(rawValue: 5)) == nil)
    #expect(device.detach(pasid: 5) == nil)
    #expect(device.attach(ioas, pasid: UInt32(Int32.max) + 1) == .noSpace)
    // PASID 0 means the device without PASID.
    #expect(device.attach(ioas, pasid: 0) == nil)
    #expect(rig.driver.domain(of: requester) != nil)
    device.close()
    #expect(rig.driver.domain(of: requester) == nil)
  }

  private func rig(pasidWidth: Int) -> MachineDescription {
    var description = MachineDescription.builtIn
    description.devices[0].pasidWidth = pasidWidth
    return description
  }
}

import IOMMU
import Machine
import PCI
import SystemPackage
import TestSupport
import Testing

@testable import VFIO

@Suite("A device does DMA through the table it is attached to")
struct DMAFlowTests {
  private let iova: UInt64 = 0x10_0000

  private func run(_ device: DeviceClient, _ iova: UInt64, _ command: UInt32) throws {
    try device.write(0, 0, UInt32(truncatingIfNeeded: iova))
    try device.write(0, 4, UInt32(truncatingIfNeeded: iova >> 32))
    try device.write(0, 8, command)
    #expect(try device.read(0, 8, as: UInt32.self) & 1 == 0)
  }

  @Test("allocate, bind, attach, map, copy both ways, unmap, fault")
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

    try run(device, iova, 3)
    try run(device, iova + 0x1000, 1)
    #expect(target.bytes.elementsEqual(source.bytes))

    #expect(rig.unmap(4096, on: ioas, at: iova + 0x1000) == nil)
    target.bytes.copyBytes(from: repeatElement(UInt8(0xee), count: 4096))
    try run(device, iova + 0x1000, 1)
    #expect(target.bytes.allSatisfy { $0 == 0xee })

    #expect(device.detach() == nil)
    source.bytes.copyBytes(from: repeatElement(UInt8(0x11), count: 4096))
    try run(device, iova, 1)
    #expect(source.bytes.allSatisfy { $0 == 0x11 })
  }

  @Test("a device that is not bus master moves nothing")
  func busMaster() throws {
    let rig = try Rig()
    let device = try rig.bound()
    let ioas = rig.makeIOAS()
    let memory = TestMemory()
    memory.bytes.copyBytes(from: repeatElement(UInt8(0xaa), count: 4096))
    #expect(device.attach(ioas) == nil)
    #expect(rig.map(memory, on: ioas, at: iova) == nil)
    try run(device, iova, 1)
    #expect(memory.bytes.allSatisfy { $0 == 0xaa })
    try device.setConfig(4, UInt16(6))
    try run(device, iova, 1)
    #expect(memory.bytes.allSatisfy { $0 == 0 })
  }

  @Test("closing the device stops it and gives everything back")
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

  @Test("the iommufd outlives its own descriptor while a device is bound")
  func iommufdFirst() throws {
    let rig = try Rig()
    let device = try rig.bound()
    let ioas = rig.makeIOAS()
    let memory = TestMemory()
    #expect(rig.map(memory, on: ioas, at: iova) == nil)
    #expect(device.attach(ioas) == nil)
    memory.bytes.copyBytes(from: repeatElement(UInt8(0xaa), count: 4096))
    rig.client.close(rig.iommufd)
    try device.setConfig(4, UInt16(6))
    try run(device, iova, 1)
    #expect(memory.bytes.allSatisfy { $0 == 0 })
    device.close()
    #expect(rig.driver.domain(of: rig.machine.devices[0].function.requester) == nil)
  }

  @Test("each PASID has a table of its own; closing takes all of them")
  func pasids() throws {
    var description = rig(pasidWidth: 16)
    description.devices[1].pasidWidth = 0
    let rig = try Rig(description)
    let device = try rig.bound()
    let requester = rig.machine.devices[0].function.requester
    let ioas = rig.makeIOAS()
    // A table made for an IOAS has no PASID flag, so iommufd refuses it.
    #expect(device.attach(ioas, pasid: 5) == .invalidArgument)
    #expect(rig.driver.domain(of: requester, pasid: PASID(rawValue: 5)) == nil)
    #expect(device.detach(pasid: 5) == nil)
    #expect(device.attach(ioas, pasid: UInt32(Int32.max) + 1) == .noSpace)
    // PASID 0 is the device without PASID.
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

// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import PCI

@Suite("Configuration space")
struct ConfigSpaceTests {
  private var space: ConfigSpace {
    var space = ConfigSpace(size: 256)
    space.define(0x10, UInt32(0x1234_5678), writable: 0x00ff_0ff0, clearedByOne: 0x1000_0008)
    return space
  }

  @Test("reads are little-endian at every width and offset")
  func reads() {
    #expect(space.read(0x10) == UInt32(0x1234_5678))
    #expect(space.read(0x10) == UInt16(0x5678))
    #expect(space.read(0x12) == UInt16(0x1234))
    #expect((0..<4).map { space.read(0x10 + $0, as: UInt8.self) } == [0x78, 0x56, 0x34, 0x12])
  }

  @Test("each bit is read-only, writable or cleared by writing 1")
  func writes() {
    var space = space
    space.write(0x10, UInt32.max)
    #expect(space.read(0x10) == UInt32(0x02ff_5ff0))
    space.write(0x10, UInt32(0))
    #expect(space.read(0x10) == UInt32(0x0200_5000))
    space.write(0x11, UInt8(0xff))
    #expect(space.read(0x10) == UInt32(0x0200_5f00))
  }

  @Test("outside the space reads return ones and writes are dropped")
  func outside() {
    var space = space
    #expect(space.read(256) == UInt32.max)
    #expect(space.read(254) == UInt32(0xffff_0000))
    #expect(space.read(-4) == UInt32.max)
    space.write(255, UInt32.max)
    space.write(.max, UInt8(1))
    #expect(space.read(252) == UInt32(0))
  }

  @Test("restoreWritableBits() keeps read-only bits")
  func restore() {
    var saved = space
    saved.write(0x10, UInt32(0x0011_0000))
    var space = space
    space.set(0x10, UInt32(0xaaaa_aaaa))
    space.restoreWritableBits(from: saved)
    #expect(space.read(0x10) == UInt32(0xaa11_a00a))
  }
}

@Suite("Configuration space of a described function")
struct FunctionDescriptionTests {
  private static func description() -> FunctionDescription {
    var description = ATSTestDevice.description
    description.bars[0].address = 0x12_e000_0000
    description.bars[1].address = 0xe000_1000
    description.extendedCapabilities = [
      .init(.ats(queueDepth: 0), at: 0x100), .init(.pageRequest(capacity: 2048), at: 0x110),
      .init(.pasid(width: 16), at: 0x120),
    ]
    return description
  }

  @Test("the header has the IDs and the class code of the description")
  func identity() {
    let space = Self.description().configSpace()
    #expect(space.size == 4096)
    #expect(space.read(Type0Header.vendorID) == UInt32(0x11e9_1234))
    #expect(space.read(Type0Header.revisionID) == UInt32(0x00ff_0002))
    #expect(space.read(Type0Header.headerType) == UInt8(0))
    #expect(space.read(Type0Header.interruptPin) == UInt8(1))
    #expect(space.read(Type0Header.command) == UInt16(0))
  }

  @Test("a function without a PCI Express capability has 256 bytes")
  func conventional() {
    var description = Self.description()
    description.capabilities.removeFirst()
    description.isMultiFunction = true
    let space = description.configSpace()
    #expect(space.size == 256)
    #expect(space.read(Type0Header.headerType) == UInt8(0x80))
  }

  @Test(
    "BARs show their size when software writes ones",
    arguments: [
      (0, UInt32(0xe000_0004), UInt32(0xffff_f004)), (1, 0x12, 0xffff_ffff),
      (2, 0xe000_1000, 0xffff_f000), (3, 0, 0), (4, 0, 0), (5, 0, 0),
    ])
  func sizing(index: Int, address: UInt32, ones: UInt32) {
    var space = Self.description().configSpace()
    let register = Type0Header.bar0 + index * 4
    #expect(space.read(register) == address)
    space.write(register, UInt32.max)
    #expect(space.read(register) == ones)
  }

  @Test("the capability list contains each capability once")
  func capabilityList() {
    let space = Self.description().configSpace()
    #expect(
      space.read(Type0Header.status, as: UInt16.self) & StatusRegister.capabilitiesList.rawValue
        != 0)
    var ids: [UInt8] = []
    var position = Int(space.read(Type0Header.capabilitiesPointer, as: UInt8.self))
    while position != 0, ids.count < 48 {
      ids.append(space.read(position))
      position = Int(space.read(position + 1, as: UInt8.self))
    }
    #expect(ids == [CapabilityID.express, CapabilityID.msi, CapabilityID.msix])
  }

  @Test("the extended capability list has version 1 headers in the order of the description")
  func extendedList() {
    let space = Self.description().configSpace()
    var headers: [UInt32] = []
    var position = 0x100
    while position != 0, headers.count < 48 {
      let header: UInt32 = space.read(position)
      headers.append(header & 0xfffff)
      position = Int(header >> 20)
    }
    #expect(headers == [0x1000f, 0x10013, 0x1001b])
    #expect(space.read(0x104, as: UInt16.self) == 0x20)  // queue depth 32, page aligned
    #expect(space.read(0x118, as: UInt32.self) == 2048)
    #expect(space.read(0x124, as: UInt16.self) == 16 << 8)
  }

  @Test(
    "MSI shows the number of vectors and has a mask bit for each", arguments: [1, 2, 4, 8, 16, 32])
  func messages(vectors: Int) {
    var description = Self.description()
    description.capabilities = [
      .init(.msi(vectors: vectors, is64Bit: true, perVectorMasking: true), at: 0x40)
    ]
    #expect(description.msiVectors == vectors)
    var space = description.configSpace()
    let control: UInt16 = space.read(0x42)
    #expect(1 << Int((control & MSI.multipleCapableMask) >> 1) == vectors)
    #expect(control & (MSI.is64Bit | MSI.perVectorMasking) == MSI.is64Bit | MSI.perVectorMasking)
    space.write(0x50, UInt32.max)
    #expect(space.read(0x50, as: UInt32.self).nonzeroBitCount == vectors)
  }

  @Test("the MSI-X table lies where the capability says")
  func msix() throws {
    let description = Self.description()
    let table = try #require(description.msixTable)
    let space = description.configSpace()
    let register: UInt32 = space.read(0xd0 + MSIX.table)
    #expect(Int(register & 7) == table.bar)
    #expect(UInt64(register & ~7) == table.offset)
    #expect(space.read(0xd0 + MSIX.control, as: UInt16.self) == UInt16(table.vectors - 1))
    let base = try #require(description.bar(table.bar))
    #expect(table.offset + table.size <= base.size)
  }
}

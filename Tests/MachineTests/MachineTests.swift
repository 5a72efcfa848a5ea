// SPDX-License-Identifier: Apache-2.0

import IOMMU
import IOMMUFD
import Machine
import PCI
import SystemPackage
import TestSupport
import Testing
import UAPI
import VFIO

@Suite("Machines")
struct MachineTests {
  @Test("the built-in machine has a node for each device, and the groups of the description")
  func builtIn() throws {
    let fixture = try VFIOFixture()
    #expect(fixture.machine.iommufd.name == "iommu")
    #expect(
      fixture.machine.devices.map { $0.node.name } == (0..<11).map { "vfio/devices/vfio\($0)" })
    #expect(
      fixture.machine.devices.map { $0.address.description }
        == [
          "0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:03:00.1", "0000:04:00.0",
          "0000:05:00.0", "0000:06:00.0", "0000:07:00.0", "0000:08:00.0", "0000:09:00.0",
          "0000:0a:00.0",
        ])
    #expect(fixture.machine.devices.map { $0.groupID } == [1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10])
    for device in fixture.machine.devices {
      #expect(device.vendorID == 0x1234)
      #expect(device.deviceID == 0x11e9)
      #expect(device.classCode == 0x00ff00)
      #expect(device.revision == 2)
    }
  }

  @Test("BARs of different devices do not overlap")
  func addresses() throws {
    let fixture = try VFIOFixture()
    var ranges: [Range<UInt64>] = []
    for device in fixture.machine.devices {
      for bar in device.function.description.bars {
        #expect(bar.address % bar.size == 0)
        ranges.append(bar.address..<bar.address + bar.size)
      }
    }
    for (index, range) in ranges.enumerated() {
      #expect(!ranges[..<index].contains { $0.overlaps(range) })
    }
  }

  @Test("only a function of a device with several functions is multi-function")
  func multiFunction() throws {
    let functions = try VFIOFixture().machine.devices.map {
      $0.function.description.isMultiFunction
    }
    #expect(functions == [false, false, true, true] + Array(repeating: false, count: 7))
  }

  @Test("the AMD driver gives a device one PASID less than a unit with PASIDs of 16 bits has")
  func usablePASIDs() throws {
    let machine = try VFIOFixture(own: .builtIn).machine
    #expect(
      machine.devices.map { $0.physical.pasidWidth } == [0, 0, 0, 0, 20, 20, 16, 0, 15, 15, 16])
    let driver = try #require(machine.unit("amdvi0")).driver
    #expect([0, 8, 15, 16].map { driver.usablePASIDWidth($0) } == [0, 8, 15, 15])
  }

  /// A change that makes the built-in machine contradict itself, and words of the error.
  struct Contradiction: Sendable, CustomTestStringConvertible {
    let error: String
    let change: @Sendable (inout MachineDescription) -> Void
    var testDescription: String { error }

    init(_ error: String, _ change: @escaping @Sendable (inout MachineDescription) -> Void) {
      self.error = error
      self.change = change
    }
  }

  @Test(
    "a description that contradicts itself is refused",
    arguments: [
      Contradiction("unit 'dmar0': two units have this name") { $0.units.append($0.units[0]) },
      Contradiction("two devices have this address") {
        $0.devices[1].address = $0.devices[0].address
      },
      Contradiction("there is no unit 'dmar7'") { $0.devices[0].unit = "dmar7" },
      Contradiction("a PASID has at most 20 bits") { $0.devices[0].pasidWidth = 21 },
      Contradiction("'page-requests' requires 'ats'") { $0.devices[0].hasPageRequests = true },
      Contradiction("'stalls' requires a unit of kind smmuv3") { $0.devices[0].canStall = true },
      Contradiction("only device 0") { $0.devices[0].address = PCIAddress(bus: 1, device: 3) },
      Contradiction("must have a function 0") {
        $0.devices[0].address = PCIAddress(bus: 30, function: 2)
      },
      Contradiction("only segment 0") { $0.devices[0].address = PCIAddress(segment: 1, bus: 1) },
    ])
  func contradictions(contradiction: Contradiction) {
    var description = MachineDescription.builtIn
    contradiction.change(&description)
    let error = #expect(throws: MachineError.self) { try description.validate() }
    #expect(error?.description.contains(contradiction.error) == true)
  }

  @Test(
    "a PCI address has the same text after parsing",
    arguments: ["0000:01:00.0", "0000:ff:1f.7", "abcd:00:02.3"])
  func addressText(text: String) {
    #expect(PCIAddress(text)?.description == text)
  }

  @Test(
    "text that is not a PCI address is refused",
    arguments: [
      "", "01", "01:00", "01:20.0", "01:00.8", "0:1:2:3.4", "g0:00.0", "01:00.0.0", "1ff:0.0",
    ])
  func noAddress(text: String) {
    #expect(PCIAddress(text) == nil)
  }
}

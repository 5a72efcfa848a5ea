// SPDX-License-Identifier: Apache-2.0

import CUAPI
import IOMMU
import IOMMUFD
import Machine
import PCI
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import VFIO

@Suite("Devices of the root complex")
struct RootComplexTests {
  private func fixture() throws -> VFIOFixture {
    var description = MachineDescription.builtIn
    description.devices = [
      .init(PCIAddress(bus: 0, device: 4), .atsTestDevice, unit: "dmar0", group: 1),
      .init(PCIAddress(bus: 0, device: 5), .atsTestDevice, unit: "dmar0", group: 2),
    ]
    return try VFIOFixture(description)
  }

  @Test("a device of the root complex has no bus to reset")
  func hotReset() throws {
    let device = try fixture().bound()
    var info = HotResetPrefix(argsz: 64)
    #expect(device.call(.vfioDeviceGetPCIHotResetInfo, &info) == .operationNotSupportedByDevice)
    var reset = HotResetPrefix(argsz: 12)
    #expect(device.call(.vfioDevicePCIHotReset, &reset) == .operationNotSupportedByDevice)
    #expect(device.ioctl(.vfioDeviceReset) == nil)
  }
}

/// iommu_get_resv_regions(), __iommu_device_set_domain()
@Suite("Reserved regions of firmware")
struct FirmwareRegionTests {
  private func fixture(_ kind: ReservedRegion.Kind) throws -> VFIOFixture {
    var description = MachineDescription.builtIn
    description.devices[0].reservedRegions = [
      ReservedRegion(range: 0xa000_0000...0xa000_ffff, kind: kind)
    ]
    return try VFIOFixture(description)
  }

  @Test("a device with a direct region cannot be bound")
  func direct() throws {
    let fixture = try fixture(.direct)
    #expect(try fixture.open(0).bind(fixture.iommufd) == .invalidArgument)
    #expect(try fixture.open(0).bind(fixture.iommufd) == .invalidArgument)
    #expect(try fixture.open(1).bind(fixture.iommufd) == nil)
  }

  @Test("a client can map only direct-relaxable regions of an attached device")
  func others() throws {
    for kind in [ReservedRegion.Kind.directRelaxable, .reserved, .msi] {
      let fixture = try fixture(kind)
      let ioas = fixture.makeIOAS()
      let memory = TestMemory()
      #expect(try fixture.bound(0).attach(ioas) == nil)
      let failure = fixture.map(memory, on: ioas, at: 0xa000_1000)
      #expect(failure == (kind == .directRelaxable ? nil : .invalidArgument))
      #expect(fixture.map(memory, on: ioas, at: 0xa001_0000) == nil)
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import VFIO

@Suite("The device file and the ioctl catalogue")
struct CatalogueTests {
  @Test(
    "a bound device answers every ioctl of the catalogue", arguments: IoctlTable.vfioDevice.rows)
  func everyRowHasAHandler(_ ioctl: Ioctl) throws {
    let fixture = try VFIOFixture()
    let device = try fixture.bound()
    defer { device.close() }
    // Without a struct at address 0 the handler fails, but not as for an unknown number.
    #expect(device.ioctl(ioctl, 0) != .inappropriateIOCTLForDevice)
  }
}

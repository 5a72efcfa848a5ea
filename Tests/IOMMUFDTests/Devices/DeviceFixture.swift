// SPDX-License-Identifier: Apache-2.0

import IOMMU
import TestSupport
import UAPI

@testable import IOMMUFD

/// Devices behind one RecordingDriver, and an open iommufd.
struct DeviceFixture {
  let driver: RecordingDriver
  let file: ControlFile

  init(_ driver: RecordingDriver = RecordingDriver()) throws {
    self.driver = driver
    file = try ControlFile()
  }

  func device(_ number: UInt8, in group: IOMMUGroup? = nil, pasidWidth: Int = 0) -> PhysicalDevice {
    PhysicalDevice(
      name: "device\(number)",
      requesterID: RequesterID(bus: 1, device: number, function: 0), driver: driver,
      group: group ?? IOMMUGroup(id: Int(number)), pasidWidth: pasidWidth)
  }

  /// Binds two devices of one group.
  func boundPair() throws -> (devices: [PhysicalDevice], bound: [BoundDevice]) {
    let group = IOMMUGroup(id: 1)
    let devices = (UInt8(0)..<2).map { device($0, in: group) }
    return (devices, try devices.map { try file.context.bind($0) })
  }

  func makeIOAS() throws -> ObjectID { ObjectID(try file.makeIOAS()) }

  func domain(of device: PhysicalDevice, _ pasid: PASID? = nil) -> RecordingDomain? {
    driver.domain(of: device.requesterID, pasid: pasid)
  }
}

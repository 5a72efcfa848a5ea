import IOMMU
import TestSupport

@testable import IOMMUFD

/// A machine of one unit.
struct DeviceBench {
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

  func domain(of device: PhysicalDevice, _ pasid: PASID? = nil) -> RecordingDomain? {
    driver.domain(of: device.requesterID, pasid: pasid)
  }
}

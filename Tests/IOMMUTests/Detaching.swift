@testable import IOMMU
@testable import IOMMUFD

/// Blocks a driver's devices when the machine goes that it is a part of. What is attached holds the driver
/// and the driver what is attached, and both the machine's memory: addresses of this process, of
/// which all tests together must not use up what there is.
final class Detaching: Sendable {
  private let driver: any IOMMUDriver

  init(_ driver: any IOMMUDriver) { self.driver = driver }

  deinit {
    let pasids = (0..<16).map { PASID(rawValue: $0) }
    for device in (0..<10).map({ RequesterID.test($0) }) {
      for pasid in pasids { driver.block(device, pasid: pasid) }
      driver.block(device, pasid: nil)
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

import TestSupport

@testable import IOMMU
@testable import IOMMUFD

/// Blocks the devices of a driver at the end of a fixture. A driver and the domains that are
/// attached to its devices hold each other, and both hold the fixture's physical memory. That
/// memory reserves addresses of this process, which all tests share.
final class DeviceBlocker: Sendable {
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

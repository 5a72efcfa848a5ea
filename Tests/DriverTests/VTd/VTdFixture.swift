// SPDX-License-Identifier: Apache-2.0

import TestSupport

@testable import IOMMU
@testable import IOMMUFD

/// A VT-d unit with its driver.
struct VTdFixture {
  let memory: PhysicalMemory
  let unit: VTdUnit
  let driver: VTdDriver
  let faults = Collector<FaultRecord>()
  private let blocker: DeviceBlocker

  init(
    _ configuration: VTdUnit.Configuration = .init(), limits: PhysicalMemory.Limits = .test
  ) throws {
    memory = try PhysicalMemory(limits)
    unit = VTdUnit(configuration, memory: memory)
    driver = try VTdDriver(unit: unit, memory: memory)
    blocker = DeviceBlocker(driver)
    let faults = faults
    driver.setFaultSink { faults.add($0) }
  }

  /// Makes the port of the device 01:`device`.0.
  func port(_ device: UInt8) -> DMAPort {
    DMAPort(requester: .test(device), vtd: unit)
  }

  /// Makes a paging domain without flags.
  func makeDomain() throws -> any PagingDomain {
    try driver.makePagingDomain([], for: .test(0))
  }
}

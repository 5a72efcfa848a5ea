// SPDX-License-Identifier: Apache-2.0

package import IOMMU
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// A device of the machine as the kernel's driver core and IOMMU core know it (struct device,
/// struct dev_iommu), bound to a context or not. Its locks are leaves.
package final class PhysicalDevice: Sendable {
  package let name: String
  package let requesterID: RequesterID
  /// The driver of the unit in front of the device.
  package let driver: any IOMMUDriver
  package let group: IOMMUGroup
  /// log2 of the number of PASIDs that the device can use; 0 without PASID capability.
  package let pasidWidth: Int
  /// Whether the device has at least PASID 0 (dev_iommu.max_pasids).
  package let hasPASIDs: Bool
  /// The reserved regions that firmware describes; the driver adds those of the unit.
  private let firmwareRegions: [ReservedRegion]
  /// The destination of the device's fault records. `nil` while the device is not bound.
  private let faultLog = Mutex<DeviceFaultLog?>(nil)
  /// Page requests that wait for the last request of their group (dev_iommu: fault_param->partial).
  private let partialRequests = Mutex<[PageRequest]>([])

  /// The number of page requests that ``partialRequests`` can hold.
  private static let partialLimit = 512

  package init(
    name: String, requesterID: RequesterID, driver: any IOMMUDriver, group: IOMMUGroup,
    pasidWidth: Int = 0, refusesOtherPASIDs: Bool = false, firmwareRegions: [ReservedRegion] = []
  ) {
    self.name = name
    self.requesterID = requesterID
    self.driver = driver
    self.group = group
    self.pasidWidth = pasidWidth
    hasPASIDs = refusesOtherPASIDs || pasidWidth > 0
    self.firmwareRegions = firmwareRegions
    group.add(
      .init(
        requesterID: requesterID, driver: driver, pasidWidth: pasidWidth,
        refusesOtherPASIDs: hasPASIDs,
        needsDirectMapping: firmwareRegions.contains { $0.kind == .direct }))
  }

  /// iommu: iommu_get_resv_regions()
  var reservedRegions: [ReservedRegion] {
    driver.reservedRegions(of: requesterID) + firmwareRegions
  }

  /// - Parameter log: `nil` when the device is unbound.
  func setFaultLog(_ log: DeviceFaultLog?) {
    faultLog.withLock { $0 = log }
  }

  /// Records a fault of the device in the fault logs of its context. Called by a thread that does
  /// DMA.
  func report(_ record: FaultRecord) {
    faultLog.withLock { $0 }?.record(record)
  }

  /// Delivers a page request group to its fault queue when `request` is the last of the group.
  /// Called by a thread that does DMA. iommu: iommu_report_device_fault()
  func report(_ request: PageRequest) {
    let handler = group.handler(for: request.pasid, driver: driver)
    let requests = partialRequests.withLock { partial -> [PageRequest]? in
      guard request.isLast else {
        if handler != nil, partial.count < Self.partialLimit { partial.append(request) }
        return nil
      }
      defer { partial.removeAll { $0.group == request.group } }
      return partial.filter { $0.group == request.group } + [request]
    }
    guard let requests else { return }
    guard let handler, let queue = handler.faultQueue else {
      return driver.respond(to: request.groupID, .invalid)
    }
    queue.deliver(.init(requests: requests, attachment: handler, driver: driver))
  }
}

/// The fault logs that record faults of a bound device, and the ID that names the device in them.
struct DeviceFaultLog: Sendable {
  let logs: FaultLogFiles
  let id: ObjectID

  func record(_ record: FaultRecord) {
    logs.record(record, of: id)
  }
}

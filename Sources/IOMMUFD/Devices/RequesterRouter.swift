// SPDX-License-Identifier: Apache-2.0

package import IOMMU
internal import Synchronization
internal import UAPI

/// Routes the fault records and page requests of one unit to the devices, by requester ID.
/// Installed as the sink of ``IOMMUDriver/setFaultSink(_:)`` and
/// ``IOMMUDriver/setPageRequestSink(_:)``. A record or request of a requester without device is
/// dropped. Called by threads that do DMA; the lock is a leaf.
package final class RequesterRouter: Sendable {
  private struct Entry: Sendable {
    weak let device: PhysicalDevice?
  }

  private let entries: Mutex<[RequesterID: Entry]>

  package init(_ devices: [PhysicalDevice] = []) {
    entries = Mutex(
      Dictionary(
        devices.map { ($0.requesterID, Entry(device: $0)) },
        uniquingKeysWith: { first, _ in first }))
  }

  /// Adds a device that was plugged in later, in place of an unplugged one with the same requester
  /// ID.
  func add(_ device: PhysicalDevice) {
    entries.withLock { $0[device.requesterID] = Entry(device: device) }
  }

  private func device(_ requester: RequesterID) -> PhysicalDevice? {
    entries.withLock { $0[requester]?.device }
  }

  package func report(_ record: FaultRecord) {
    device(record.requester)?.report(record)
  }

  package func report(_ request: PageRequest) {
    device(request.requester)?.report(request)
  }
}

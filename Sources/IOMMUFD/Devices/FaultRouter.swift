// From an IOMMU unit, which knows requester ids, to the context that a device is bound to.

package import IOMMU
internal import Synchronization
internal import UAPI

/// Leads the faults and page requests of one unit to its devices. The sink of
/// ``IOMMUDriver/setFaultSink(_:)`` and ``IOMMUDriver/setPageRequestSink(_:)``.
package final class FaultRouter: Sendable {
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

  /// A device that came later; the one that had its requester id is gone.
  func add(_ device: PhysicalDevice) {
    entries.withLock { $0[device.requesterID] = Entry(device: device) }
  }

  private func device(_ requester: RequesterID) -> PhysicalDevice? {
    entries.withLock { $0[requester]?.device }
  }

  /// A requester that is no device of the machine is nobody's.
  package func report(_ record: FaultRecord) {
    device(record.requester)?.report(record)
  }

  package func report(_ request: PageRequest) {
    device(request.requester)?.report(request)
  }
}

/// Where the faults of a bound device go, and under which name.
struct FaultListener: Sendable {
  let logs: FaultLogFiles
  let id: ObjectID

  func report(_ record: FaultRecord) {
    logs.record(record, of: id)
  }
}

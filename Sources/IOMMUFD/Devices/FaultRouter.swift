// From an IOMMU unit, which knows requester ids, to the context that a device is bound to.

package import IOMMU
internal import UAPI

/// Leads the faults of one unit to its devices. The sink of ``IOMMUDriver/setFaultSink(_:)``.
package final class FaultRouter: Sendable {
  private struct Entry: Sendable {
    weak let device: PhysicalDevice?
  }

  private let entries: [RequesterID: Entry]

  package init(_ devices: [PhysicalDevice]) {
    entries = Dictionary(
      devices.map { ($0.requesterID, Entry(device: $0)) }, uniquingKeysWith: { first, _ in first })
  }

  /// A requester that is no device of the machine is nobody's.
  package func report(_ record: FaultRecord) {
    entries[record.requester]?.device?.report(record)
  }
}

/// Where the faults of a bound device go, and under which name.
struct FaultListener: Sendable {
  let logs: FaultLogs
  let id: ObjectID

  func report(_ record: FaultRecord) {
    logs.record(record, of: id)
  }
}

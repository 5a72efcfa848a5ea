// What a driver's virtual unit asks of iommufd: who is who, where to tell events, and pages that the
// client can map. It is asked from the data plane too, so everything is under leaf locks.

internal import Host
internal import IOMMU
internal import Synchronization
internal import SystemPackage

final class VIOMMUHost: VirtualIOMMUHost {
  private struct State {
    var devices: [UInt64: RequesterID] = [:]
    /// By type of event.
    var queues: [UInt32: EventQueue<VirtualEventQueue>] = [:]
    /// Offsets of what the client can map.
    var mappings: Set<UInt64> = []
  }

  private let state = Mutex(State())
  private let mappings: MappableRegions

  init(mappings: MappableRegions) {
    self.mappings = mappings
  }

  // MARK: Devices

  func device(virtualID: UInt64) -> RequesterID? {
    state.withLock { $0.devices[virtualID] }
  }

  /// A device has one name at most.
  func virtualID(of device: RequesterID) -> UInt64? {
    state.withLock { $0.devices.first { $0.value == device }?.key }
  }

  func setDevice(_ device: RequesterID?, virtualID: UInt64) {
    state.withLock { $0.devices[virtualID] = device }
  }

  // MARK: Events

  func report(_ event: [UInt8], type: UInt32) throws(Errno) {
    guard let queue = state.withLock({ $0.queues[type] }) else { throw .notSupported }
    queue.withContents { $0.append(event) }
    queue.wake()
  }

  func hasQueue(type: UInt32) -> Bool {
    state.withLock { $0.queues[type] != nil }
  }

  func setQueue(_ queue: EventQueue<VirtualEventQueue>?, type: UInt32) {
    state.withLock { $0.queues[type] = queue }
  }

  // MARK: Pages to map

  func addMapping(of memory: OwnedDescriptor, length: UInt64) throws(Errno) -> UInt64 {
    let offset = try mappings.add(memory, length: length)
    state.withLock { _ = $0.mappings.insert(offset) }
    return offset
  }

  func removeMapping(at offset: UInt64) {
    state.withLock { _ = $0.mappings.remove(offset) }
    mappings.remove(at: offset)
  }

  /// Whether any process maps something of it.
  var isMapped: Bool {
    state.withLock { $0.mappings }.contains { mappings.isMapped(at: $0) }
  }
}

// What a driver's virtual unit asks of iommufd: who is who, where to tell events, and pages that the
// client can map. It is asked from the data plane too, so everything is under leaf locks.

internal import IOMMU
internal import Synchronization
internal import SystemPackage

final class VIOMMUHost: VirtualIOMMUHost {
  private struct State {
    var devices: [UInt64: RequesterID] = [:]
    /// By type of event.
    var queues: [UInt32: EventQueue<VirtualEventQueue>] = [:]
    var regions: [MappableRegions.Region] = []
  }

  private let state = Mutex(State())
  private let regions: MappableRegions

  init(regions: MappableRegions) {
    self.regions = regions
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

  func addRegion(
    holding contents: [UInt8], length: UInt64, share: RegionSharing?
  ) throws(Errno) -> UInt64 {
    let region = try regions.add(contents, length: length, share: share)
    state.withLock { $0.regions.append(region) }
    return region.offset
  }

  func removeRegion(at offset: UInt64) {
    state.withLock { $0.regions.removeAll { $0.offset == offset } }
    regions.remove(at: offset)
  }

  /// Makes that nothing of it can be mapped any more.
  /// - Returns: false when something is mapped, by any process; all is as it was then.
  func closeRegions() -> Bool {
    let mine = state.withLock { $0.regions }
    for (index, region) in mine.enumerated() where !region.close() {
      for closed in mine[..<index] { closed.reopen() }
      return false
    }
    return true
  }
}

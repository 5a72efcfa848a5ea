// SPDX-License-Identifier: Apache-2.0

internal import IOMMU
internal import Synchronization
internal import SystemPackage

/// iommufd's services for a driver's vIOMMU: look-up of vDEVICEs, queues for events, and regions
/// that the client can map. Drivers call them from any thread, also from threads that do DMA. So
/// the state has a leaf lock of its own.
final class VIOMMUHost: VirtualIOMMUHost {
  private struct State {
    /// The devices of the vDEVICEs, by virtual ID.
    var devices: [UInt64: RequesterID] = [:]
    /// By type of event.
    var queues: [UInt32: EventQueue<VEventQueueContents>] = [:]
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

  /// A device has at most one vDEVICE.
  func virtualID(of device: RequesterID) -> UInt64? {
    state.withLock { $0.devices.first { $0.value == device }?.key }
  }

  /// - Parameter device: `nil` removes the entry.
  func setDevice(_ device: RequesterID?, virtualID: UInt64) {
    state.withLock { $0.devices[virtualID] = device }
  }

  // MARK: Events

  func report(_ event: [UInt8], type: UInt32) throws(Errno) {
    guard let queue = state.withLock({ $0.queues[type] }) else { throw .notSupported }
    queue.withContents { $0.append(event) }
    queue.notify()
  }

  func hasQueue(type: UInt32) -> Bool {
    state.withLock { $0.queues[type] != nil }
  }

  /// - Parameter queue: `nil` removes the entry.
  func setQueue(_ queue: EventQueue<VEventQueueContents>?, type: UInt32) {
    state.withLock { $0.queues[type] = queue }
  }

  // MARK: Regions to map

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

  /// Forbids new mappings of every region.
  /// - Returns: `false` when a process has one mapped; nothing has changed then.
  func closeRegions() -> Bool {
    let own = state.withLock { $0.regions }
    for (index, region) in own.enumerated() where !region.close() {
      for closed in own[..<index] { closed.reopen() }
      return false
    }
    return true
  }
}

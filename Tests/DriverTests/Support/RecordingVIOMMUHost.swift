// SPDX-License-Identifier: Apache-2.0

import Host
import Synchronization
import SystemPackage
import TestSupport

@testable import IOMMU
@testable import IOMMUFD

/// The services of iommufd for a driver's vIOMMU: the virtual IDs of devices, event queues and
/// register regions, which the test sets and reads.
final class RecordingVIOMMUHost: VirtualIOMMUHost {
  private struct State {
    var devices: [UInt64: RequesterID] = [:]
    /// The events by type. `nil` when there is no event queue.
    var events: [UInt32: [[UInt8]]]?
    var share: RegionSharing?
    var refusesRegions = false
  }

  private let state = Mutex(State())

  init() {}

  // MARK: For tests

  /// Sets the device that the guest knows as `virtualID`. `nil` removes the device.
  func setDevice(_ device: RequesterID?, virtualID: UInt64) {
    state.withLock { $0.devices[virtualID] = device }
  }

  func openEventQueues() { state.withLock { $0.events = [:] } }

  func consumeEvents(of type: UInt32) -> [[UInt8]] {
    state.withLock { $0.events?.removeValue(forKey: type) ?? [] }
  }

  func consumeEvents() -> [SMMUv3EventRecord] {
    consumeEvents(of: 1).map { bytes in
      SMMUv3EventRecord(
        words: bytes.withUnsafeBytes { $0.loadUnaligned(as: InlineArray<4, UInt64>.self) })
    }
  }

  /// Makes every call of `addRegion` throw ENOMEM.
  func refuseRegions() { state.withLock { $0.refusesRegions = true } }

  /// Shares the registers as the first mapping of the region does.
  func share(_ pages: SharedRegisters) throws(Errno) {
    try state.withLock { $0.share }?(pages)
  }

  // MARK: VirtualIOMMUHost

  func addRegion(
    holding contents: [UInt8], length: UInt64, share: RegionSharing?
  ) throws(Errno) -> UInt64 {
    try state.withLock { state throws(Errno) in
      if state.refusesRegions { throw .noMemory }
      state.share = share
      return 4096
    }
  }

  func removeRegion(at offset: UInt64) {}

  func device(virtualID: UInt64) -> RequesterID? {
    state.withLock { $0.devices[virtualID] }
  }

  func virtualID(of device: RequesterID) -> UInt64? {
    state.withLock { $0.devices.first { $0.value == device }?.key }
  }

  func report(_ event: [UInt8], type: UInt32) throws(Errno) {
    let isStored = state.withLock { state in
      state.events?[type, default: []].append(event)
      return state.events != nil
    }
    if !isStored { throw .notSupported }
  }
}

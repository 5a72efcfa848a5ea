// SPDX-License-Identifier: Apache-2.0

// The hardware behind the kernel's own iommufd tests (drivers/iommu/iommufd/selftest.c): mock
// devices that software adds and removes. Each has a cache whose entries can be read, and sends a
// page request when a test operation triggers it. No DMA goes through the unit; the test operations
// read its tables (AMDv1Mock) instead.

internal import Synchronization
package import SystemPackage

package final class MockUnit: Sendable {
  /// The number of entries of a device's cache.
  package static let cacheEntries = 4
  /// The initial value of a cache entry (IOMMU_TEST_DEV_CACHE_DEFAULT).
  private static let cacheDefault: UInt32 = 0xbaddad
  /// The number of requester IDs.
  private static let capacity = 1 << 16

  private struct Device {
    var cache = InlineArray<4, UInt32>(repeating: MockUnit.cacheDefault)
    /// The number of attachments that handle page requests.
    var pageRequestUsers = 0
  }

  private struct State {
    /// The devices, indexed by requester ID; `nil` for an unused ID.
    var devices: [Device?] = []
    var sink: PageRequestSink?

    /// Applies `body` to a device; returns `nil` when the device does not exist.
    mutating func with<Result>(_ id: RequesterID, _ body: (inout Device) -> Result) -> Result? {
      guard devices.indices.contains(Int(id.rawValue)), var device = devices[Int(id.rawValue)]
      else { return nil }
      defer { devices[Int(id.rawValue)] = device }
      return body(&device)
    }
  }

  private let state = Mutex(State())

  package init() {}

  // MARK: Devices

  /// Adds a device with the lowest free requester ID.
  /// - Throws: ENOMEM when all requester IDs are in use.
  package func plug() throws(Errno) -> RequesterID {
    let index = state.withLock { state -> Int? in
      if let index = state.devices.firstIndex(where: { $0 == nil }) {
        state.devices[index] = Device()
        return index
      }
      guard state.devices.count < Self.capacity else { return nil }
      state.devices.append(Device())
      return state.devices.count - 1
    }
    guard let index else { throw .noMemory }
    return RequesterID(rawValue: UInt16(index))
  }

  /// Removes a device.
  package func unplug(_ device: RequesterID) {
    state.withLock { state in
      guard state.devices.indices.contains(Int(device.rawValue)) else { return }
      state.devices[Int(device.rawValue)] = nil
      while let last = state.devices.last, last == nil { state.devices.removeLast() }
    }
  }

  // MARK: Caches

  /// Returns a cache entry of a device, or `nil` when the device or the entry does not exist.
  package func cacheEntry(_ entry: Int, of device: RequesterID) -> UInt32? {
    state.withLock { state -> UInt32? in
      guard (0..<Self.cacheEntries).contains(entry) else { return nil }
      return state.with(device) { $0.cache[entry] }
    }
  }

  /// Sets a cache entry of a device to 0.
  /// - Parameter entry: `nil` selects all entries.
  package func invalidateCache(_ entry: Int?, of device: RequesterID) {
    state.withLock { state in
      _ = state.with(device) { device in
        for index in device.cache.indices where entry == nil || index == entry {
          device.cache[index] = 0
        }
      }
    }
  }

  // MARK: Page requests

  /// Sets the handler of page requests; replaces the previous one.
  package func setPageRequestSink(_ sink: PageRequestSink?) {
    state.withLock { $0.sink = sink }
  }

  /// Changes the number of attachments of `device` that handle page requests.
  package func countPageRequestUsers(of device: RequesterID, by change: Int) {
    state.withLock { state in _ = state.with(device) { $0.pageRequestUsers += change } }
  }

  /// Makes a device send a page request. Without an attachment that handles page requests, nothing
  /// happens.
  package func requestPage(_ request: PageRequest) {
    let sink = state.withLock { state -> PageRequestSink? in
      let users = state.with(request.requester) { $0.pageRequestUsers } ?? 0
      return users > 0 ? state.sink : nil
    }
    sink?(request)
  }
}

// The unit behind the kernel's own iommufd tests (drivers/iommu/iommufd/selftest.c), as hardware:
// devices come and go, each has a cache that can be looked into, and makes page requests when told
// to. No DMA goes through it; its tables (AMDv1Mock) are looked at by the test operations instead.

internal import Synchronization
package import SystemPackage

package final class MockUnit: Sendable {
  /// Entries of a device's cache.
  package static let cacheEntries = 4
  /// What they hold when the device is new (IOMMU_TEST_DEV_CACHE_DEFAULT).
  private static let cacheDefault: UInt32 = 0xbaddad
  /// Requester ids.
  private static let capacity = 1 << 16

  private struct Device {
    var cache = InlineArray<4, UInt32>(repeating: MockUnit.cacheDefault)
    /// Attachments that handle page requests.
    var pageRequestUsers = 0
  }

  private struct State {
    /// Indexed by requester id; nil: no device.
    var devices: [Device?] = []
    var sink: PageRequestSink?

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

  /// A new device, with the lowest free id.
  /// - Throws: `.noMemory` when there are too many.
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

  package func unplug(_ device: RequesterID) {
    state.withLock { state in
      guard state.devices.indices.contains(Int(device.rawValue)) else { return }
      state.devices[Int(device.rawValue)] = nil
      while let last = state.devices.last, last == nil { state.devices.removeLast() }
    }
  }

  // MARK: Caches

  /// Nil: no such device or entry.
  package func cacheEntry(_ entry: Int, of device: RequesterID) -> UInt32? {
    state.withLock { state -> UInt32? in
      guard (0..<Self.cacheEntries).contains(entry) else { return nil }
      return state.with(device) { $0.cache[entry] }
    }
  }

  /// - Parameter entry: nil for all.
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

  package func setPageRequestSink(_ sink: PageRequestSink?) {
    state.withLock { $0.sink = sink }
  }

  /// One attachment more, or less, answers page requests of `device`.
  package func countPageRequestUsers(of device: RequesterID, by change: Int) {
    state.withLock { state in _ = state.with(device) { $0.pageRequestUsers += change } }
  }

  /// Makes the device request a page; in vain when nobody answers.
  package func requestPage(_ request: PageRequest) {
    let sink = state.withLock { state -> PageRequestSink? in
      let users = state.with(request.requester) { $0.pageRequestUsers } ?? 0
      return users > 0 ? state.sink : nil
    }
    sink?(request)
  }
}

// SPDX-License-Identifier: Apache-2.0

// A paging domain of the amd driver (struct protection_domain). Its page table is a
// host table ("v1"), which gets more levels as its addresses grow, or a guest table ("v2"), which
// is the page table of PASID 0 in the GCR3 table of each attached device.

package import IOMMU
internal import Synchronization
package import SystemPackage

package final class AMDViPagingDomain: PagingDomain, DirtyTracking {
  /// The format of the page table.
  package enum Mode: Sendable {
    /// PD_MODE_V1
    case host
    /// PD_MODE_V2
    case guest
  }

  let mode: Mode
  /// The units behind which devices can be attached.
  let platform: AMDViPlatform
  /// The domain ID of translations through the host table. Translations through a guest table have
  /// the domain ID of the device's GCR3 table.
  let id: DomainID
  package let aperture: ClosedRange<UInt64>
  package let pageSizes: UInt64
  let tracksDirty: Bool
  private let state: Mutex<State>

  private struct State {
    var table: PagingTable
    /// The devices that are attached to the domain, or to a domain nested on it.
    var devices: [AMDViDevice] = []
    /// The units of these devices.
    var units: [UnitUse] = []
    /// The host's domain IDs of guests' domains that are nested on this domain.
    var guestDomains: Set<DomainID> = []
    /// Whether dirty tracking is enabled.
    var recordsWrites = false
  }

  /// A unit and the number of devices behind it that use the domain (struct pdom_iommu_info).
  private struct UnitUse {
    let driver: AMDViDriver
    var users: Int
  }

  /// The fields of a device table entry that describe the host table.
  struct HostTable {
    let root: PhysicalAddress
    let levels: Int
    let recordsWrites: Bool
  }

  /// amd: amd_iommu_domain_alloc_paging_v1(), amd_iommu_domain_alloc_paging_v2()
  init(
    _ mode: Mode, tracksDirty: Bool = false, for platform: AMDViPlatform, memory: PhysicalMemory
  ) throws(Errno) {
    self.mode = mode
    self.tracksDirty = tracksDirty
    self.platform = platform
    let capabilities = platform.capabilities
    let table: PagingTable
    let addressBits: Int
    switch mode {
    case .host:
      addressBits = capabilities.hostAddressBits
      table = try PagingTable(
        amdv1AddressBits: addressBits, pageSizes: .max, memory: memory)
    case .guest:
      // Half of the addresses that the table spans, because a guest table sign-extends addresses.
      addressBits = capabilities.guestLevels > 4 ? 56 : 47
      table = try PagingTable(
        amdGuestLevels: capabilities.guestLevels > 4 ? 5 : 4, memory: memory)
    }
    aperture = 0...(addressBits >= 64 ? .max : 1 << UInt64(addressBits) - 1)
    pageSizes = table.pageSizes
    state = Mutex(State(table: table))
    do throws(Errno) {
      id = try platform.domainIDs.allocateDomainID()
    } catch {
      table.destroy()
      // protection_domain_alloc() returns NULL for every error.
      throw .noMemory
    }
  }

  /// The detaches have invalidated what the units had cached, so the domain ID can be allocated
  /// again (amd: amd_iommu_domain_free()).
  deinit {
    state.withLock { $0.table.destroy() }
    platform.domainIDs.release(id)
  }

  // MARK: Users

  /// Adds a device and counts it for its unit (amd: pdom_attach_iommu()).
  func add(_ device: AMDViDevice) {
    state.withLock { state in
      state.devices.append(device)
      guard let unit = state.units.firstIndex(where: { $0.driver === device.driver }) else {
        return state.units.append(UnitUse(driver: device.driver, users: 1))
      }
      state.units[unit].users += 1
    }
  }

  /// amd: pdom_detach_iommu()
  func remove(_ device: AMDViDevice) {
    state.withLock { state in
      guard let index = state.devices.firstIndex(where: { $0 === device }),
        let unit = state.units.firstIndex(where: { $0.driver === device.driver })
      else { return }
      state.devices.remove(at: index)
      state.units[unit].users -= 1
      if state.units[unit].users == 0 { state.units.remove(at: unit) }
    }
  }

  func addGuestDomain(_ id: DomainID) { state.withLock { _ = $0.guestDomains.insert(id) } }
  func removeGuestDomain(_ id: DomainID) { state.withLock { _ = $0.guestDomains.remove(id) } }

  var hostTable: HostTable {
    state.withLock {
      HostTable(
        root: $0.table.root, levels: $0.table.topLevel + 1, recordsWrites: $0.recordsWrites)
    }
  }

  var root: PhysicalAddress { state.withLock { $0.table.root } }

  // MARK: PagingDomain

  /// The driver attaches PASIDs for processes only (SVA).
  package var hasPASIDAttach: Bool { false }

  /// amd: amd_iommu_enforce_cache_coherency(). Page table entries always have the FC bit.
  package func enforceCacheCoherency() -> Bool { true }

  package func map(
    _ iova: IOVA, to physical: PhysicalAddress, length: UInt64, permissions: Permissions
  ) throws(Errno) {
    let last = try requireMappable(iova, to: physical, length: length, permissions)
    try grow(toSpan: last.rawValue)
    let result = state.withLock {
      $0.table.map(
        iova, to: physical, length: length, permissions: permissions, snoops: mode == .host)
    }
    // Units do not cache not-present entries. They can cache page tables that large pages have
    // replaced.
    if !result.retired.isEmpty {
      flush(iova, through: last, directories: true)
      state.withLock { $0.table.free(result.retired) }
    }
    try undoMapping(result.mapped, at: iova, after: result.error)
  }

  /// Adds levels to the host table until it spans `last`
  /// (generic_pt: increase_top(); amd: amd_iommu_change_top()).
  private func grow(toSpan last: UInt64) throws(Errno) {
    guard mode == .host else { return }
    while true {
      let devices = try state.withLock { state throws(Errno) -> [AMDViDevice]? in
        guard state.table.lastAddress < last else { return nil }
        state.table = try state.table.grown()
        return state.devices
      }
      guard let devices else { return }
      for device in devices { device.refresh() }
    }
  }

  @discardableResult
  package func unmap(_ iova: IOVA, length: UInt64) -> UInt64 {
    let result = state.withLock { state in
      let last = min(state.table.lastAddress, aperture.upperBound)
      return state.table.unmap(iova, length: iova.clipped(length, through: last))
    }
    if result.length > 0 || !result.retired.isEmpty {
      // amd: amd_iommu_iotlb_sync()
      flush(
        iova, through: iova.last(of: max(result.length, 1)),
        directories: !result.retired.isEmpty)
      state.withLock { $0.table.free(result.retired) }
    }
    return result.length
  }

  package func physicalAddress(of iova: IOVA) -> PhysicalAddress? {
    state.withLock { state in
      guard iova.rawValue <= min(state.table.lastAddress, aperture.upperBound) else { return nil }
      return state.table.physicalAddress(of: iova)
    }
  }

  // MARK: Dirty tracking

  package var dirtyTracking: (any DirtyTracking)? { tracksDirty ? self : nil }

  /// Sets or clears HAD in the device table entries (amd: amd_iommu_set_dirty_tracking()).
  package func setDirtyTracking(_ isEnabled: Bool) throws(Errno) {
    let devices = state.withLock { state -> [AMDViDevice] in
      guard state.recordsWrites != isEnabled else { return [] }
      state.recordsWrites = isEnabled
      return state.devices
    }
    guard !devices.isEmpty else { return }
    for device in devices { device.refresh() }
    // With translations in the IOTLB the next writes would not set dirty bits.
    flushAll()
  }

  /// generic_pt: read_and_clear_dirty(). In the kernel iommufd's core invalidates the cleared
  /// pages.
  package func readDirty(
    _ range: ClosedRange<IOVA>, clearing: Bool, _ report: (IOVA, UInt64) -> Void
  ) throws(Errno) {
    guard aperture.contains(range.upperBound.rawValue) else { throw .invalidArgument }
    var hasCleared = false
    state.withLock { state in
      let last = min(range.upperBound, IOVA(state.table.lastAddress))
      guard range.lowerBound <= last else { return }
      state.table.readDirty(range.lowerBound...last, clearing: clearing) {
        hasCleared = clearing
        report($0, $1)
      }
    }
    if hasCleared {
      flush(range.lowerBound, through: range.upperBound, directories: false)
    }
  }

  // MARK: Invalidation

  func flushAll() { flush(IOVA(0), through: IOVA(.max), directories: true) }

  /// Invalidates the range in every unit behind which the domain is used
  /// (amd: amd_iommu_domain_flush_pages()).
  /// - Parameter directories: Whether entries of page directories have changed, not only leaf
  ///   entries.
  private func flush(_ first: IOVA, through last: IOVA, directories: Bool) {
    let range = AMDViPageRange(covering: first.rawValue, through: last.rawValue)
    let (units, users, guestDomains) = state.withLock { ($0.units, $0.devices, $0.guestDomains) }
    for unit in units {
      let devices = users.filter { $0.driver === unit.driver }
      let commands: [AMDViCommand] =
        switch mode {
        case .host:
          ([id] + guestDomains).map {
            .invalidatePages(range, of: $0, pasid: nil, directories: directories)
          }
        case .guest:
          devices.compactMap { $0.guestCR3Domain }.map {
            .invalidatePages(
              range, of: $0, pasid: PASID(rawValue: 0), directories: directories)
          }
        }
      // Device TLBs come last: a translation that a function requests in between comes from the
      // page table, because the IOTLB is empty.
      unit.driver.submit(
        commands + devices.compactMap { $0.flushCommand(range, isGuest: mode == .guest) })
    }
  }
}

extension PagingTable {
  /// The highest address that the table spans. Pages have 4 KiB, and tables have 512 entries.
  fileprivate var lastAddress: UInt64 {
    let bits = 12 + 9 * (topLevel + 1)
    return bits >= 64 ? .max : 1 << UInt64(bits) - 1
  }
}

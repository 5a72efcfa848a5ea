// SPDX-License-Identifier: Apache-2.0

// A paging domain of the mock driver: an AMDv1 page table whose smallest pages have 2 KiB, so that
// tests exercise pages smaller than the system's page size.

internal import CUAPI
package import IOMMU
internal import Synchronization
package import SystemPackage

package final class MockPagingDomain: PagingDomain, DirtyTracking {
  /// The values of iommu_hwpt_selftest.pagetable_type.
  enum Format {
    /// Every page size of AMDv1, and the addresses from MOCK_APERTURE_START to MOCK_APERTURE_LAST.
    case standard
    /// System pages and 1 MiB pages, and all addresses that the page table spans.
    case huge

    init(_ type: UInt32) throws(Errno) {
      switch Int(type) {
      case MOCK_IOMMUPT_DEFAULT: self = .standard
      case MOCK_IOMMUPT_HUGE: self = .huge
      default: throw .notSupported
      }
    }
  }

  private struct State {
    var isTracking = false
  }

  package let aperture: ClosedRange<UInt64>
  package var pageSizes: UInt64 { table.pageSizes }
  /// Whether the domain has been made for dirty tracking.
  let tracksDirty: Bool
  private let table: PagingTable
  private let state = Mutex(State())

  /// The addresses that the page table spans: three levels of 512 entries with pages of 2 KiB.
  private static let allAddresses: ClosedRange<UInt64> = 0...(1 << 38 - 1)

  init(_ format: Format, tracksDirty: Bool, memory: PhysicalMemory) throws(Errno) {
    self.tracksDirty = tracksDirty
    switch format {
    case .standard:
      aperture = UInt64(MOCK_APERTURE_START)...UInt64(MOCK_APERTURE_LAST)
      table = try PagingTable(mockWithPageSizes: nil, memory: memory)
    case .huge:
      aperture = Self.allAddresses
      table = try PagingTable(
        mockWithPageSizes: 4096 | UInt64(MOCK_HUGE_PAGE_SIZE), memory: memory)
    }
  }

  deinit { table.destroy() }

  // MARK: PagingDomain

  /// Mock devices have no no-snoop accesses.
  package func enforceCacheCoherency() -> Bool { false }

  package func map(
    _ iova: IOVA, to physical: PhysicalAddress, length: UInt64, permissions: Permissions
  ) throws(Errno) {
    guard length > 0 else { throw .invalidArgument }
    let (last, overflow) = iova.rawValue.addingReportingOverflow(length - 1)
    guard !overflow, Self.allAddresses.contains(last) else { throw .outOfRange }
    let result = state.withLock { _ in
      table.map(iova, to: physical, length: length, permissions: permissions, snoops: false)
    }
    table.free(result.retired)
    try undoMapping(result.mapped, at: iova, after: result.error)
  }

  @discardableResult
  package func unmap(_ iova: IOVA, length: UInt64) -> UInt64 {
    let length = iova.clipped(length, through: Self.allAddresses.upperBound)
    let result = state.withLock { _ in table.unmap(iova, length: length) }
    table.free(result.retired)
    return result.length
  }

  package func physicalAddress(of iova: IOVA) -> PhysicalAddress? {
    guard Self.allAddresses.contains(iova.rawValue) else { return nil }
    return state.withLock { _ in table.physicalAddress(of: iova) }
  }

  // MARK: Dirty tracking

  package var dirtyTracking: (any DirtyTracking)? { tracksDirty ? self : nil }

  package func setDirtyTracking(_ isEnabled: Bool) throws(Errno) {
    state.withLock { $0.isTracking = isEnabled }
  }

  package func readDirty(
    _ range: ClosedRange<IOVA>, clearing: Bool, _ report: (IOVA, UInt64) -> Void
  ) throws(Errno) {
    guard Self.allAddresses.contains(range.upperBound.rawValue) else { throw .outOfRange }
    state.withLock { _ in
      table.readDirty(range, clearing: clearing, report)
    }
  }

  var isTracking: Bool { state.withLock { $0.isTracking } }

  /// Sets the dirty bit of the page at `iova`, if a page is mapped there, as hardware does for a
  /// write.
  func setDirty(_ iova: IOVA) {
    guard Self.allAddresses.contains(iova.rawValue) else { return }
    _ = state.withLock { _ in table.setDirty(iova) }
  }
}

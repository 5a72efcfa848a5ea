// SPDX-License-Identifier: Apache-2.0

internal import Host
internal import IOMMU
internal import SystemPackage

/// One mapping of an ``IOPageTable`` (iommufd: struct iopt_area): a range of IOVAs that maps a
/// slice of client pages. Range and slice are in bytes; where the alignment of the page table
/// allows it, both may begin and end inside a page. Guarded by the context's lock.
final class Area {
  let range: ClosedRange<IOVA>
  let pages: IOPTPages
  /// The byte of `pages` that the first IOVA maps to.
  let startByte: UInt64
  let permissions: Permissions
  /// The number of pins of accesses (iopt_area.num_accesses).
  private(set) var pins = 0
  /// The number of those pins that forbid unmapping (iopt_area.num_locks).
  private(set) var locks = 0
  /// Whether the area is being mapped, is mapped, or has been removed from its page table.
  private(set) var state = State.pending
  /// Whether the area is a user of its pages for domains.
  private(set) var isPinned = false
  /// Whether new pins are refused because the area is being unmapped (iopt_area.prevent_access).
  private(set) var refusesPins = false

  enum State {
    /// Reserves its IOVAs, and waits until its pages are pinned (iopt_area.pages is NULL).
    case pending
    case mapped
    case removed
  }

  /// - Parameter range: not all IOVAs, a length that no call can ask for.
  init(
    _ range: ClosedRange<IOVA>, of pages: IOPTPages, at startByte: UInt64,
    permissions: Permissions
  ) {
    self.range = range
    self.pages = pages
    self.startByte = startByte
    self.permissions = permissions
  }

  var firstIOVA: IOVA { range.lowerBound }
  var lastIOVA: IOVA { range.upperBound }
  var length: UInt64 { range.length }
  /// The offset of the first IOVA in its page (iopt_area.page_offset).
  var pageOffset: UInt64 { startByte & 4095 }
  /// The indexes in `pages` of the first and the last page.
  var firstIndex: UInt64 { startByte >> 12 }
  var lastIndex: UInt64 { (startByte + (lastIOVA - firstIOVA)) >> 12 }

  /// Returns the byte of `pages` that `iova` maps to. iommufd: iopt_area_start_byte()
  func startByte(of iova: IOVA) -> UInt64 { startByte + (iova - firstIOVA) }

  func isAligned(to mask: UInt64) -> Bool {
    (firstIOVA.rawValue | length | pageOffset) & mask == 0
  }

  // MARK: Life

  func setMapped() { state = .mapped }
  func setRemoved() { state = .removed }

  /// The domains of the page table need the pages, and the area does not have them yet.
  var needsPin: Bool { !isPinned && !pages.isRevoked }

  /// Makes the area a user of its pages. Releases the lock while pages are faulted in; the area may
  /// be removed meanwhile, or another call may have pinned it.
  /// - Throws: what ``IOPTPages/pin(_:through:caller:)`` throws, if the area was not removed.
  func pin(caller: AddressSpace?) throws(Errno) {
    do throws(Errno) {
      _ = try pages.pin(firstIndex, through: lastIndex, caller: caller)
    } catch {
      if state == .removed { return }
      throw error
    }
    if state == .removed || isPinned {
      pages.unpin(firstIndex, through: lastIndex)
    } else {
      isPinned = true
    }
  }

  /// Whether pinning the area now would exceed the limit of the account.
  var exceedsLimit: Bool { pages.exceedsLimit(lastIndex - firstIndex + 1) }

  func unpin() {
    guard isPinned else { return }
    isPinned = false
    pages.unpin(firstIndex, through: lastIndex)
  }

  /// The frames of a pinned area, in order.
  var frames: [FrameRun] { pages.frames(firstIndex, through: lastIndex) }

  /// Makes a part of the area, as it was before it was removed, a mapped area.
  func part(_ part: ClosedRange<IOVA>) -> Area {
    let new = Area(part, of: pages, at: startByte(of: part.lowerBound), permissions: permissions)
    new.state = .mapped
    new.isPinned = isPinned
    return new
  }

  // MARK: Pins of accesses

  func addPin(isLocking: Bool) {
    pins += 1
    if isLocking { locks += 1 }
  }

  func removePin(isLocking: Bool) {
    pins -= 1
    if isLocking { locks -= 1 }
  }

  func refusePins() { refusesPins = true }
}

/// A slice of client pages that is about to be mapped, or copied from or to
/// (iommufd: struct iopt_pages_list).
package struct PageSlice {
  let pages: IOPTPages
  let startByte: UInt64
  let length: UInt64
}

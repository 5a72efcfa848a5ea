// SPDX-License-Identifier: Apache-2.0

// Pins and copies of accesses.
//
// A pin counts on every area that it touches. An area with pins cannot be unmapped: the unmap first
// calls `unmap(_:)` of every access, which must unpin before it returns, and from then on refuses
// new pins of the area. A pin of an internal access is a lock: the unmap fails with EBUSY, and no
// access is called.
//
// The call to an access happens with the context's lock held, in the middle of an unmap. The access
// may unpin; it must not map or unmap. The unmap looks the area up again afterwards.

internal import Host
package import IOMMU
internal import SystemPackage
internal import UAPI

/// An access as the page table uses it (iommufd: struct iommufd_access).
protocol PageTableAccess: AnyObject {
  /// Every IOVA and length must be a multiple of this while the access is in the page table.
  var alignment: UInt64 { get }
  /// An internal access cannot be called; its pins lock their areas.
  var isInternal: Bool { get }
  /// Unpins every pin of pages of `area`, which is about to be unmapped.
  func unmap(_ area: Area)
}

/// Pages that an access has pinned.
package struct AccessPin {
  /// The pinned pages of one area.
  fileprivate struct PinnedPages {
    let area: Area
    let first: UInt64
    let last: UInt64

    func unpinPages() { area.pages.unpin(first, through: last) }
  }

  fileprivate var pinnedPages: [PinnedPages] = []
  fileprivate let isLocking: Bool
  /// The frames of the pages, in the order of IOVAs.
  package fileprivate(set) var frames: [FrameRun] = []

  /// The pin after an unpin.
  var withoutPages: AccessPin {
    var pin = self
    pin.pinnedPages = []
    return pin
  }

  /// The areas whose pages are pinned: none when an area was unmapped during the pin.
  var areas: [ObjectIdentifier] { pinnedPages.map { ObjectIdentifier($0.area) } }
}

extension IOPageTable {
  /// The number of times that accesses are called before an unmap fails. The kernel warns then,
  /// because its own drivers are the accesses.
  private static let evictionLimit = 100

  /// Makes external accesses unpin what they have pinned of an area.
  /// iommufd: iommufd_access_notify_unmap()
  /// - Throws: `.deadlock` when a pin stays.
  func evictAccesses(of area: Area) throws(Errno) {
    area.refusePins()
    for _ in 0..<Self.evictionLimit where area.pins > 0 {
      for access in accesses where !access.isInternal { access.unmap(area) }
    }
    guard area.pins == 0 else { throw .deadlock }
  }

  // MARK: Pinning

  /// Pins the pages of a range, or none. Releases the lock while pages are faulted in. When an area
  /// is unmapped meanwhile, the result is as if the pin had come first and the unmap had called the
  /// access. iommufd: iommufd_access_pin_pages()
  /// - Parameters:
  ///   - isLocking: the range cannot be unmapped until the unpin.
  ///   - client: the client that makes the call, if a client does.
  /// - Throws: `.invalidArgument` when the range begins inside a page, or an area in it ends inside
  ///   a page and another follows, or an area is being unmapped or maps a dma-buf; `.notPermitted`
  ///   when an area does not permit the access; `.noSuchFileOrDirectory` (ENOENT) when areas do not
  ///   cover the range; what a pin throws.
  func pin(
    _ range: ClosedRange<IOVA>, forWriting: Bool, isLocking: Bool, client: (any Client)?
  ) throws(Errno) -> AccessPin {
    let caller = try? client?.addressSpace()
    let (parts, failure) = pinnableParts(of: range, forWriting: forWriting)
    if isLocking { for part in parts { part.area.addPin(isLocking: true) } }
    var pin = AccessPin(isLocking: isLocking)
    do throws(Errno) {
      for part in parts {
        try FaultInjection.step()
        do throws(Errno) {
          pin.frames.join(
            try part.area.pages.pin(part.first, through: part.last, caller: caller))
        } catch {
          throw part.area.state == .removed ? .noSuchFileOrDirectory : error
        }
        pin.pinnedPages.append(part)
      }
      if let failure { throw failure }
    } catch {
      for pinned in pin.pinnedPages { pinned.unpinPages() }
      if isLocking { for part in parts { part.area.removePin(isLocking: true) } }
      throw error
    }
    if isLocking { return pin }
    if parts.allSatisfy({ $0.area.state == .mapped && !$0.area.refusesPins }) {
      for part in parts { part.area.addPin(isLocking: false) }
    } else {
      for part in parts { part.unpinPages() }
      pin.pinnedPages = []
    }
    return pin
  }

  /// Returns the parts of a range whose pages can be pinned, up to the first that cannot, and the
  /// reason why it cannot.
  private func pinnableParts(
    of range: ClosedRange<IOVA>, forWriting: Bool
  ) -> (parts: [AccessPin.PinnedPages], failure: Errno?) {
    var parts: [AccessPin.PinnedPages] = []
    do throws(Errno) {
      let isCovered = try forEachContiguousArea(in: range) { area, part throws(Errno) in
        try area.requirePinnable(part, isLast: range.upperBound <= area.lastIOVA)
        try area.requireAccess(forWriting: forWriting)
        parts.append(
          .init(
            area: area, first: area.startByte(of: part.lowerBound) >> 12,
            last: area.startByte(of: part.upperBound) >> 12))
      }
      return (parts, isCovered ? nil : .noSuchFileOrDirectory)
    } catch {
      return (parts, error)
    }
  }

  /// iommufd: iommufd_access_unpin_pages()
  func unpin(_ pin: AccessPin) {
    for pinned in pin.pinnedPages {
      pinned.unpinPages()
      pinned.area.removePin(isLocking: pin.isLocking)
    }
  }

  // MARK: Copying

  /// Returns the slices of a range for a copy, up to the first that cannot be copied, and the
  /// reason why it cannot. iommufd: iommufd_access_rw()
  func slices(
    of range: ClosedRange<IOVA>, forWriting: Bool
  ) -> (slices: [PageSlice], failure: Errno?) {
    var slices: [PageSlice] = []
    do throws(Errno) {
      let isCovered = try forEachContiguousArea(in: range) { area, part throws(Errno) in
        if area.refusesPins { throw .invalidArgument }
        try area.requireAccess(forWriting: forWriting)
        slices.append(
          PageSlice(
            pages: area.pages, startByte: area.startByte(of: part.lowerBound),
            length: part.length))
      }
      return (slices, isCovered ? nil : .noSuchFileOrDirectory)
    } catch {
      return (slices, error)
    }
  }

  // MARK: The selftest interface

  /// Returns the IOVA at `offset` in the area with a number, counted from the lowest area; 0
  /// without such an area. selftest.c: __iommufd_test_syz_conv_iova()
  func iova(ofArea number: UInt32, offset: UInt64) -> IOVA {
    var interval = areas.first
    for _ in 0..<number {
      guard let current = interval else { return IOVA(0) }
      interval = areas.interval(after: current, through: .max)
    }
    return IOVA(interval.map { $0.first &+ offset } ?? 0)
  }
}

extension Area {
  /// Checks that the pages of `part` can be pinned whole, followed by those of the next area.
  /// iommufd: iopt_area_contig_is_aligned()
  fileprivate func requirePinnable(_ part: ClosedRange<IOVA>, isLast: Bool) throws(Errno) {
    guard !refusesPins, startByte(of: part.lowerBound) & 4095 == 0,
      isLast || startByte(of: lastIOVA) & 4095 == 4095
    else { throw .invalidArgument }
  }

  /// iommufd: check_area_prot(), iopt_area_add_access()
  fileprivate func requireAccess(forWriting: Bool) throws(Errno) {
    guard permissions.contains(forWriting ? .write : .read) else { throw .notPermitted }
    if pages.isBuffer { throw .invalidArgument }
  }
}

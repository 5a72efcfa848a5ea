// Users of mapped memory that go through IOVAs and have no page table of their own: accesses.
//
// A pin of an access counts on every area that it touches. An area with pins is not unmapped: its
// accesses are told, and are expected to let go before they return. From then on the area takes no new
// pins. An access of the kernel's own cannot be told; its pins *lock* their areas, and unmapping is EBUSY.
//
// Telling is a call, under the control lock, in the middle of an unmapping. What is called may take back
// pins, and nothing else: it neither maps nor unmaps. The unmapping therefore looks up its place anew
// after each call.

internal import Host
package import IOMMU
internal import SystemPackage
internal import UAPI

/// An access, as far as a page table is concerned (iommufd: struct iommufd_access).
protocol PageTableAccess: AnyObject {
  /// What every IOVA must be a multiple of while the access is there.
  var alignment: UInt64 { get }
  /// Of the kernel's own.
  var isInternal: Bool { get }
  /// The memory goes: every pin that overlaps `range` is to be taken back.
  func unmap(_ range: ClosedRange<UInt64>)
}

/// Pages that an access has pinned.
package struct AccessPin {
  fileprivate struct Part {
    let area: Area
    let first: UInt64
    let last: UInt64
  }

  fileprivate var parts: [Part] = []
  fileprivate let isLocking: Bool
  /// The frames of the pages, in order.
  package fileprivate(set) var frames: [FrameRun] = []
}

extension IOPageTable {
  /// How often an access may be told without any effect. The kernel then warns, for it is its own fault.
  private static let tries = 100

  // MARK: Accesses

  /// iommufd: iopt_add_access()
  /// - Throws: `.addressInUse` when a mapping has not the alignment that the access needs.
  func addAccess(_ access: any PageTableAccess) throws(Errno) {
    try FaultInjection.step()
    accesses.append(access)
    do throws(Errno) {
      try updateAlignment()
    } catch {
      accesses.removeLast()
      throw error
    }
  }

  /// iommufd: iopt_remove_access()
  func removeAccess(_ access: any PageTableAccess) {
    accesses.removeAll { $0 === access }
    alignment = requiredAlignment
  }

  /// Has the pins of an area taken back, as far as their owners can be told.
  /// iommufd: iommufd_access_notify_unmap()
  /// - Throws: `.deadlock` when somebody does not let go.
  func evictAccesses(of area: Area) throws(Errno) {
    area.refusesPins = true
    for _ in 0..<Self.tries where area.pins > 0 {
      for access in accesses where !access.isInternal {
        access.unmap(area.firstIOVA...area.lastIOVA)
      }
    }
    guard area.pins == 0 else { throw .deadlock }
  }

  // MARK: Pinning

  /// Pins the pages of a range of IOVAs for an access.
  /// iommufd: iommufd_access_pin_pages()
  /// - Parameters:
  ///   - isLocking: unmapping is EBUSY meanwhile.
  ///   - client: whose call this is, if one's.
  /// - Throws: `.invalidArgument` for an area that is being unmapped, or has half a page where another is
  ///   expected to follow; `.notPermitted`; `.noSuchFileOrDirectory` (ENOENT) when not all of it is mapped;
  ///   what the pin says. Nothing is pinned then.
  func pin(
    _ range: ClosedRange<UInt64>, forWriting: Bool, isLocking: Bool, client: (any Client)?
  ) throws(Errno) -> AccessPin {
    let caller = try? client?.addressSpace()
    var pin = AccessPin(isLocking: isLocking)
    do throws(Errno) {
      let isCovered = try forEachContiguousArea(
        from: range.lowerBound, through: range.upperBound
      ) { area, part throws(Errno) in
        try area.requirePin(of: part, isLast: range.upperBound <= area.lastIOVA)
        try area.requireAccess(forWriting: forWriting)
        let first = area.startByte(of: part.lowerBound) >> 12
        let last = area.startByte(of: part.upperBound) >> 12
        try FaultInjection.step()
        pin.frames.join(try area.pages.pin(first, through: last, caller: caller))
        area.pins += 1
        if isLocking { area.locks += 1 }
        pin.parts.append(.init(area: area, first: first, last: last))
      }
      guard isCovered else { throw Errno.noSuchFileOrDirectory }
    } catch {
      unpin(pin)
      throw error
    }
    return pin
  }

  /// iommufd: iommufd_access_unpin_pages()
  func unpin(_ pin: AccessPin) {
    for part in pin.parts {
      part.area.pages.unpin(part.first, through: part.last)
      part.area.pins -= 1
      if pin.isLocking { part.area.locks -= 1 }
    }
  }

  /// An IOVA by the number of its area; 0 when there are not so many.
  /// selftest.c: __iommufd_test_syz_conv_iova()
  func iova(ofArea number: UInt32, offset: UInt64) -> UInt64 {
    var span = areas.firstSpan(overlapping: 0, through: .max)
    for _ in 0..<number {
      guard let current = span else { return 0 }
      span = areas.span(after: current, through: .max)
    }
    return span.map { $0.first &+ offset } ?? 0
  }

  // MARK: Copying

  /// The memory behind a range for a copy, up to the first obstacle.
  /// iommufd: iommufd_access_rw()
  /// - Returns: the memory before the obstacle, and the obstacle.
  func slices(
    of range: ClosedRange<UInt64>, forWriting: Bool
  ) -> (slices: [PageSlice], failure: Errno?) {
    var slices: [PageSlice] = []
    do throws(Errno) {
      let isCovered = try forEachContiguousArea(
        from: range.lowerBound, through: range.upperBound
      ) { area, part throws(Errno) in
        if area.refusesPins { throw .invalidArgument }
        try area.requireAccess(forWriting: forWriting)
        slices.append(
          PageSlice(
            pages: area.pages, startByte: area.startByte(of: part.lowerBound),
            length: part.upperBound - part.lowerBound + 1))
      }
      return (slices, isCovered ? nil : .noSuchFileOrDirectory)
    } catch {
      return (slices, error)
    }
  }
}

extension Area {
  /// Pages are pinned whole, and those of one area are followed by those of the next.
  /// iommufd: iopt_area_contig_is_aligned()
  fileprivate func requirePin(of part: ClosedRange<UInt64>, isLast: Bool) throws(Errno) {
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

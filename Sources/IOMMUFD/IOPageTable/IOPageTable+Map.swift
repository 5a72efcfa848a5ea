// Making areas: of memory of a process, of a file, of pages that another area has.

internal import Host
package import IOMMU
package import SystemPackage
package import UAPI

extension IOPageTable {
  /// Maps `length` bytes of the client's memory.
  /// iommufd: iopt_map_user_pages()
  /// - Parameters:
  ///   - iova: where the mapping must be; nil to choose.
  ///   - accounting: what the context charges.
  /// - Returns: where it is.
  /// - Throws: `.invalidArgument`, `.overflow`, `.fileExists` (EEXIST) when something is mapped
  ///   there, `.noSpace`, `.noMemory`; and what the pin says when there is a domain.
  package func map(
    userAddress: UInt64, length: UInt64, at iova: UInt64?, permissions: Permissions,
    accounting: PinAccounting.Mode, client: any Client
  ) throws(Errno) -> UInt64 {
    guard !userAddress.addingReportingOverflow(length).overflow else { throw .overflow }
    try Self.require(length)
    let payer = try PinAccount(client, mode: accounting, needsAddressSpace: true)
    guard let space = payer.addressSpace else { throw .badAddress }
    let pages = makePages(
      .user(space, base: userAddress & ~4095), offset: userAddress & 4095, length: length,
      permissions, payer: payer)
    let slice = PageSlice(pages: pages, startByte: userAddress & 4095, length: length)
    return try map(
      [slice], length: length, at: iova, permissions: permissions,
      caller: space)
  }

  /// Maps `length` bytes of the client's file `file` from `start` on. Any open file will do until a
  /// domain needs its pages.
  /// iommufd: iopt_map_file_pages()
  /// - Throws: as ``map(userAddress:length:at:permissions:accounting:client:)``; `.badFileDescriptor`.
  package func map(
    file number: Int32, start: UInt64, length: UInt64, at iova: UInt64?,
    permissions: Permissions, accounting: PinAccounting.Mode, client: any Client
  ) throws(Errno) -> UInt64 {
    guard length > 0 else { throw .invalidArgument }
    guard !start.addingReportingOverflow(length - 1).overflow else { throw .overflow }
    let duplicate = try client.duplicateDescriptor(number)
    // fget() does not see descriptors that are only a path.
    guard !duplicate.isPathOnly else { throw .badFileDescriptor }
    try Self.require(length)
    let payer = try PinAccount(client, mode: accounting, needsAddressSpace: false)
    let pages = makePages(
      .file(host.files.share(duplicate), base: start & ~4095), offset: start & 4095, length: length,
      permissions,
      payer: payer)
    let slice = PageSlice(pages: pages, startByte: start & 4095, length: length)
    return try map(
      [slice], length: length, at: iova, permissions: permissions,
      caller: payer.addressSpace)
  }

  /// Maps `length` bytes of `buffer` from `start` on.
  /// iommufd: iopt_map_file_pages() of a dma-buf
  /// - Throws: as ``map(userAddress:length:at:permissions:accounting:client:)``; `.invalidArgument` behind
  ///   its end; `.operationNotSupportedByDevice` (ENODEV) when it has been taken back.
  func map(
    buffer: DMABuffer, start: UInt64, length: UInt64, at iova: UInt64?,
    permissions: Permissions, importer: any DMABufferImporter, client: any Client
  ) throws(Errno) -> UInt64 {
    guard length > 0 else { throw .invalidArgument }
    let (last, overflow) = start.addingReportingOverflow(length - 1)
    guard !overflow else { throw .overflow }
    guard last < buffer.length else { throw .invalidArgument }
    let pages = makePages(
      .buffer(buffer, base: start & ~4095), offset: start & 4095, length: length, permissions,
      payer: .nobody(client))
    try buffer.attach(pages, importer: importer)
    let slice = PageSlice(pages: pages, startByte: start & 4095, length: length)
    return try map([slice], length: length, at: iova, permissions: permissions, caller: nil)
  }

  /// The client pages behind a range, for ``map(_:length:at:permissions:client:)``.
  /// iommufd: iopt_get_pages()
  /// - Throws: `.noSuchFileOrDirectory` (ENOENT) when not all of it is mapped; `.noMemory` for more
  ///   areas than a page table can have.
  package func pages(at iova: UInt64, length: UInt64) throws(Errno) -> [PageSlice] {
    guard length > 0 else { throw .invalidArgument }
    let (last, overflow) = iova.addingReportingOverflow(length - 1)
    if overflow { throw .overflow }
    var slices: [PageSlice] = []
    let isCovered = try forEachContiguousArea(from: iova, through: last) {
      (area, range) throws(Errno) in
      try FaultInjection.step()
      slices.append(
        PageSlice(
          pages: area.pages, startByte: area.startByte(of: range.lowerBound),
          length: range.upperBound - range.lowerBound + 1))
    }
    guard isCovered else { throw .noSuchFileOrDirectory }
    return slices
  }

  /// Maps pages that are mapped elsewhere, `length` bytes in all.
  /// iommufd: iopt_map_pages()
  /// - Throws: as ``map(userAddress:length:at:permissions:accounting:client:)``; `.notPermitted` when
  ///   they are to be writable and were not.
  package func map(
    _ slices: [PageSlice], length: UInt64, at iova: UInt64?, permissions: Permissions,
    client: (any Client)? = nil
  ) throws(Errno) -> UInt64 {
    try map(
      slices, length: length, at: iova, permissions: permissions,
      caller: domains.isEmpty ? nil : try? client?.addressSpace())
  }

  // MARK: Pages

  /// iommufd: iopt_alloc_pages()
  private static func require(_ length: UInt64) throws(Errno) {
    guard length > 0, length <= UInt64.max - 4096 else { throw .invalidArgument }
    try FaultInjection.step()
  }

  private func makePages(
    _ source: PageSource, offset: UInt64, length: UInt64, _ permissions: Permissions,
    payer: PinAccount
  ) -> IOPTPages {
    // Wraps only for lengths that no area can have; they are found out when the area is made.
    IOPTPages(
      source, pageCount: (length &+ offset &+ 4095) >> 12,
      isWritable: permissions.contains(.write), payer: payer, memory: memory, host: host)
  }

  // MARK: Areas

  private func map(
    _ slices: [PageSlice], length: UInt64, at iova: UInt64?, permissions: Permissions,
    caller: AddressSpace?
  ) throws(Errno) -> UInt64 {
    guard areas.count + slices.count <= Self.areaLimit else { throw .noMemory }
    guard length > 0, length & (alignment - 1) == 0, let first = slices.first else {
      throw .invalidArgument
    }
    let place: UInt64
    if let iova {
      try requireFree(iova, length: length)
      place = iova
    } else {
      place = try chooseIOVA(for: first.address, length: length)
    }
    let new = try makeAreas(slices, at: place, permissions)
    try fill(new, caller: caller)
    for area in new {
      areas.insert(Interval(first: area.firstIOVA, last: area.lastIOVA, value: area))
    }
    return place
  }

  /// iommufd: iopt_check_iova()
  private func requireFree(_ iova: UInt64, length: UInt64) throws(Errno) {
    guard iova & (alignment - 1) == 0 else { throw .invalidArgument }
    let (last, overflow) = iova.addingReportingOverflow(length - 1)
    if overflow { throw .overflow }
    if reservations.overlaps(iova...last) { throw .invalidArgument }
    if areas.firstSpan(overlapping: iova, through: last) != nil { throw .fileExists }
  }

  /// iommufd: iopt_insert_area(), without the insertion
  private func makeAreas(
    _ slices: [PageSlice], at iova: UInt64, _ permissions: Permissions
  ) throws(Errno) -> [Area] {
    var next: UInt64? = iova
    var areas: [Area] = []
    for slice in slices {
      try FaultInjection.step()
      if permissions.contains(.write), !slice.pages.isWritable { throw .notPermitted }
      guard slice.startByte & 4095 & (alignment - 1) == 0 else { throw .invalidArgument }
      guard let first = next else { throw .overflow }
      let (last, wraps) = first.addingReportingOverflow(slice.length - 1)
      let (lastByte, wrapsByte) = slice.startByte.addingReportingOverflow(slice.length - 1)
      guard !wraps, !wrapsByte, lastByte >> 12 < slice.pages.pageCount else { throw .overflow }
      areas.append(
        Area(iova: first...last, of: slice.pages, at: slice.startByte, permissions: permissions))
      next = last == .max ? nil : last + 1
    }
    return areas
  }
}

extension PageSlice {
  /// Where the slice is in its process or file.
  fileprivate var address: UInt64 {
    switch pages.source {
    case .user(_, let base), .file(_, let base), .buffer(_, let base): startByte &+ base
    }
  }
}

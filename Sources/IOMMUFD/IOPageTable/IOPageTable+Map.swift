// SPDX-License-Identifier: Apache-2.0

// The sources of a mapping: memory of a process, a file, a dma-buf, or pages that another area
// maps. Each becomes slices of IOPTPages, which IOPageTable.swift maps.

internal import Host
package import IOMMU
package import SystemPackage
package import UAPI

extension IOPageTable {
  /// Maps `length` bytes of the client's memory. iommufd: iopt_map_user_pages()
  /// - Parameters:
  ///   - iova: the first IOVA; `nil` chooses one.
  ///   - accounting: the counter that the pages are charged to.
  /// - Returns: the first IOVA.
  /// - Throws: `.invalidArgument`, `.overflow`, `.fileExists` (EEXIST) when an area overlaps the
  ///   range, `.noSpace` when no IOVA can be chosen, `.noMemory`; with a domain also what a pin
  ///   throws.
  package func map(
    userAddress: UInt64, length: UInt64, at iova: IOVA?, permissions: Permissions,
    accounting: PinAccountingMode, client: any Client
  ) throws(Errno) -> IOVA {
    guard !userAddress.addingReportingOverflow(length).overflow else { throw .overflow }
    try Self.require(length)
    let account = try PinAccount(client, mode: accounting, needsAddressSpace: true)
    guard let space = account.addressSpace else { throw .badAddress }
    let pages = makePages(
      .user(space, base: userAddress & ~4095), offset: userAddress & 4095, length: length,
      permissions, account: account)
    let slice = PageSlice(pages: pages, startByte: userAddress & 4095, length: length)
    return try map(
      [slice], length: length, at: iova, permissions: permissions,
      caller: space)
  }

  /// Maps `length` bytes of the client's file from `start` on. Without a domain the file may be of
  /// any kind; a pin requires memory. iommufd: iopt_map_file_pages()
  /// - Parameter number: the client's descriptor of the file.
  /// - Throws: as ``map(userAddress:length:at:permissions:accounting:client:)``;
  ///   `.badFileDescriptor`.
  package func map(
    file number: Int32, start: UInt64, length: UInt64, at iova: IOVA?,
    permissions: Permissions, accounting: PinAccountingMode, client: any Client
  ) throws(Errno) -> IOVA {
    guard length > 0 else { throw .invalidArgument }
    guard !start.addingReportingOverflow(length - 1).overflow else { throw .overflow }
    let duplicate = try client.duplicateDescriptor(number)
    // fget() does not find O_PATH descriptors.
    guard !duplicate.isPathOnly else { throw .badFileDescriptor }
    try Self.require(length)
    let account = try PinAccount(client, mode: accounting, needsAddressSpace: false)
    let pages = makePages(
      .file(host.files.share(duplicate), base: start & ~4095), offset: start & 4095, length: length,
      permissions, account: account)
    let slice = PageSlice(pages: pages, startByte: start & 4095, length: length)
    return try map(
      [slice], length: length, at: iova, permissions: permissions,
      caller: account.addressSpace)
  }

  /// Maps `length` bytes of `buffer` from `start` on. iommufd: iopt_map_file_pages() of a dma-buf
  /// - Throws: as ``map(userAddress:length:at:permissions:accounting:client:)``; `.invalidArgument`
  ///   for a range behind the end of the buffer, `.operationNotSupportedByDevice` (ENODEV) after
  ///   its revocation.
  func map(
    buffer: DMABuffer, start: UInt64, length: UInt64, at iova: IOVA?,
    permissions: Permissions, importer: any DMABufferImporter, client: any Client
  ) throws(Errno) -> IOVA {
    guard length > 0 else { throw .invalidArgument }
    let (last, overflow) = start.addingReportingOverflow(length - 1)
    guard !overflow else { throw .overflow }
    guard last < buffer.length else { throw .invalidArgument }
    let pages = makePages(
      .buffer(buffer, base: start & ~4095), offset: start & 4095, length: length, permissions,
      account: .uncharged(client))
    try buffer.attach(pages, importer: importer)
    let slice = PageSlice(pages: pages, startByte: start & 4095, length: length)
    return try map([slice], length: length, at: iova, permissions: permissions, caller: nil)
  }

  /// Maps slices of pages that an area maps, `length` bytes in all.
  /// iommufd: iopt_map_pages(), as iommufd_ioas_copy() calls it
  /// - Throws: as ``map(userAddress:length:at:permissions:accounting:client:)``; `.notPermitted`
  ///   when the new areas would be writable and the pages are not.
  package func map(
    _ slices: [PageSlice], length: UInt64, at iova: IOVA?, permissions: Permissions,
    client: (any Client)? = nil
  ) throws(Errno) -> IOVA {
    try map(
      slices, length: length, at: iova, permissions: permissions,
      caller: domains.isEmpty && filling.isEmpty ? nil : try? client?.addressSpace())
  }

  /// Returns the slices that a range maps. iommufd: iopt_get_pages()
  /// - Throws: `.noSuchFileOrDirectory` (ENOENT) when areas do not cover the range.
  package func pages(at iova: IOVA, length: UInt64) throws(Errno) -> [PageSlice] {
    let range = try ClosedRange(iova, length: length)
    var slices: [PageSlice] = []
    let isCovered = try forEachContiguousArea(in: range) { (area, part) throws(Errno) in
      try FaultInjection.step()
      slices.append(
        PageSlice(
          pages: area.pages, startByte: area.startByte(of: part.lowerBound), length: part.length))
    }
    guard isCovered else { throw .noSuchFileOrDirectory }
    return slices
  }

  // MARK: Pages

  /// iommufd: iopt_alloc_pages()
  private static func require(_ length: UInt64) throws(Errno) {
    guard length > 0, length <= UInt64.max - 4096 else { throw .invalidArgument }
    try FaultInjection.step()
  }

  private func makePages(
    _ source: PageSource, offset: UInt64, length: UInt64, _ permissions: Permissions,
    account: PinAccount
  ) -> IOPTPages {
    // Wraps only for lengths that no area can have; makeAreas() refuses them.
    IOPTPages(
      source, pageCount: (length &+ offset &+ 4095) >> 12,
      isWritable: permissions.contains(.write), account: account, memory: memory, host: host,
      lock: lock)
  }
}

extension PageSlice {
  /// The address of the slice in its process, or its offset in the file or buffer.
  var address: UInt64 {
    switch pages.source {
    case .user(_, let base), .file(_, let base), .buffer(_, let base): startByte &+ base
    }
  }
}

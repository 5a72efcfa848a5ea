// SPDX-License-Identifier: Apache-2.0

package import SystemPackage

/// A page table of any format that a driver manages; a paging domain holds one.
///
/// The format is a case of a closed enum and not an existential, so that each operation takes one
/// switch and runs specialised code below it. The caller serialises changes.
package struct PagingTable: Sendable {
  private enum Table: Sendable {
    case amdGuest(RadixMapper<AMDGuest>)
    case amdv1(RadixMapper<AMDv1>)
    case amdv1Mock(RadixMapper<AMDv1Mock>)
    case vtdFirstStage(RadixMapper<VTdFirstStage>)
    case vtdSecondStage(RadixMapper<VTdSecondStage>)
    case vmsav8Stage1(RadixMapper<VMSAv8Stage1<Granule4K>>)
    case vmsav8Stage2(RadixMapper<VMSAv8Stage2<Granule4K>>)
  }

  private let table: Table
  private let memory: PhysicalMemory
  /// Bit n: the table uses pages of 2^n bytes.
  package let pageSizes: UInt64
  /// The address of the top table, for the unit's configuration tables.
  package let root: PhysicalAddress
  /// The level of the top table. Level 0 is the level whose entries are always leaves.
  package let topLevel: Int

  private init(_ table: Table, in memory: PhysicalMemory) {
    self.table = table
    self.memory = memory
    switch table {
    case .amdGuest(let mapper): (pageSizes, root, topLevel) = mapper.description
    case .amdv1(let mapper): (pageSizes, root, topLevel) = mapper.description
    case .amdv1Mock(let mapper): (pageSizes, root, topLevel) = mapper.description
    case .vtdFirstStage(let mapper): (pageSizes, root, topLevel) = mapper.description
    case .vtdSecondStage(let mapper): (pageSizes, root, topLevel) = mapper.description
    case .vmsav8Stage1(let mapper): (pageSizes, root, topLevel) = mapper.description
    case .vmsav8Stage2(let mapper): (pageSizes, root, topLevel) = mapper.description
    }
  }

  /// Makes an empty table whose top table is as large as the others.
  private init<Format: WalkableFormat>(
    _ kind: (RadixMapper<Format>) -> Table, levels: Int, pageSizes: UInt64,
    in memory: PhysicalMemory
  ) throws(Errno) {
    let mapper = try RadixMapper<Format>(
      topLevel: levels - 1, pageSizes: pageSizes, memory: memory)
    self.init(kind(mapper), in: memory)
  }

  /// 4 KiB, 2 MiB and 1 GiB: the page sizes of all formats with tables of 512 entries.
  private static let commonSizes: UInt64 = 1 << 12 | 1 << 21 | 1 << 30

  /// Makes a VT-d first-stage table.
  /// - Parameters:
  ///   - levels: 4 or 5.
  ///   - pageSizes: bit n: pages of 2^n bytes may be used. Pages of 4 KiB always may.
  /// - Throws: `.notSupported` for another number of levels, `.noMemory`.
  package init(
    vtdFirstStageLevels levels: Int, pageSizes: UInt64, memory: PhysicalMemory
  ) throws(Errno) {
    guard (4...5).contains(levels) else { throw .notSupported }
    try self.init(
      Table.vtdFirstStage, levels: levels, pageSizes: pageSizes & Self.commonSizes | 1 << 12,
      in: memory)
  }

  /// Makes a VT-d second-stage table.
  /// - Parameters:
  ///   - levels: 3 to 5.
  ///   - pageSizes: bit n: pages of 2^n bytes may be used. Pages of 4 KiB always may.
  /// - Throws: `.notSupported` for another number of levels, `.noMemory`.
  package init(
    vtdSecondStageLevels levels: Int, pageSizes: UInt64, memory: PhysicalMemory
  ) throws(Errno) {
    guard (3...5).contains(levels) else { throw .notSupported }
    try self.init(
      Table.vtdSecondStage, levels: levels, pageSizes: pageSizes & Self.commonSizes | 1 << 12,
      in: memory)
  }

  /// Makes a stage 1 table of VMSAv8-64 with 4 KiB pages and 48-bit input addresses.
  /// io-pgtable-arm: arm_64_lpae_alloc_pgtable_s1()
  package init(vmsav8Stage1In memory: PhysicalMemory) throws(Errno) {
    try self.init(Table.vmsav8Stage1, levels: 4, pageSizes: Self.commonSizes, in: memory)
  }

  /// Makes a stage 2 table of VMSAv8-64 with 4 KiB pages. Where Arm's level 0 would have only a few
  /// entries, the walk begins at level 1, with up to 8 concatenated tables. io-pgtable-arm:
  /// arm_64_lpae_alloc_pgtable_s2(), arm_lpae_concat_mandatory()
  /// - Parameter addressBits: the size of input and output addresses, 32 to 48.
  package init(
    vmsav8Stage2AddressBits addressBits: Int, memory: PhysicalMemory
  ) throws(Errno) {
    guard (32...48).contains(addressBits) else { throw .notSupported }
    let bits = addressBits - 12
    var topLevel = (bits + 8) / 9 - 1
    if topLevel == 3, addressBits <= 42 { topLevel = 2 }
    self.init(
      .vmsav8Stage2(
        try RadixMapper(
          topLevel: topLevel, topBits: bits - 9 * topLevel, pageSizes: Self.commonSizes,
          memory: memory)), in: memory)
  }

  /// Makes a host table of AMD-Vi.
  /// - Parameters:
  ///   - levels: 1 to 6.
  ///   - pageSizes: bit n: pages of 2^n bytes may be used, if the format has them.
  package init(
    amdv1Levels levels: Int, pageSizes: UInt64, memory: PhysicalMemory
  ) throws(Errno) {
    guard (1...6).contains(levels) else { throw .notSupported }
    let sizes = pageSizes & AMDv1.sizes(levels: levels, addressBits: 64)
    try self.init(Table.amdv1, levels: levels, pageSizes: sizes, in: memory)
  }

  /// Makes a host table of AMD-Vi with three levels, to which ``grown()`` adds levels.
  /// - Parameters:
  ///   - addressBits: the size of the addresses that the table translates with all its levels.
  ///   - pageSizes: bit n: pages of 2^n bytes may be used, if the format has them.
  package init(
    amdv1AddressBits addressBits: Int, pageSizes: UInt64, memory: PhysicalMemory
  ) throws(Errno) {
    let sizes = pageSizes & AMDv1.sizes(levels: 6, addressBits: addressBits)
    try self.init(Table.amdv1, levels: 3, pageSizes: sizes, in: memory)
  }

  /// Makes a guest table of AMD-Vi with 4 or 5 levels.
  package init(amdGuestLevels levels: Int, memory: PhysicalMemory) throws(Errno) {
    guard (4...5).contains(levels) else { throw .notSupported }
    try self.init(Table.amdGuest, levels: levels, pageSizes: Self.commonSizes, in: memory)
  }

  /// Returns this host table of AMD-Vi with one more level on top. The result contains this table,
  /// which must not be changed or destroyed any more.
  /// - Throws: `.outOfRange` when the table has six levels already, `.noMemory`.
  package func grown() throws(Errno) -> PagingTable {
    guard case .amdv1(let mapper) = table, topLevel < 5 else { throw .outOfRange }
    return PagingTable(.amdv1(try RadixMapper(above: mapper)), in: memory)
  }

  /// Makes a table of the mock unit, with three levels and 38-bit addresses.
  /// - Parameter pageSizes: bit n: pages of 2^n bytes may be used. `nil` allows all sizes of the
  ///   format.
  package init(mockWithPageSizes pageSizes: UInt64?, memory: PhysicalMemory) throws(Errno) {
    let sizes = AMDv1Mock.sizes(levels: 3, addressBits: 38) & (pageSizes ?? .max)
    try self.init(Table.amdv1Mock, levels: 3, pageSizes: sizes, in: memory)
  }

  /// Maps `length` bytes with the largest pages that fit.
  /// - Returns: the bytes that were mapped (`length`, unless there is an error), the error of
  ///   ``RadixMapper/map(_:)``, and tables that the caller frees after an invalidation.
  package func map(
    _ iova: IOVA, to physical: PhysicalAddress, length: UInt64, permissions: Permissions,
    snoops: Bool
  ) -> (mapped: UInt64, error: Errno?, retired: RetiredTables) {
    func map<Format>(
      _ mapper: RadixMapper<Format>
    ) -> (mapped: UInt64, error: Errno?, retired: RetiredTables) {
      var request = MapRequest(
        iova, to: physical, length: length, permissions: permissions, snoops: snoops)
      let error = mapper.map(&request)
      return (length - request.remaining, error, request.retired)
    }
    return switch table {
    case .amdGuest(let mapper): map(mapper)
    case .amdv1(let mapper): map(mapper)
    case .amdv1Mock(let mapper): map(mapper)
    case .vtdFirstStage(let mapper): map(mapper)
    case .vtdSecondStage(let mapper): map(mapper)
    case .vmsav8Stage1(let mapper): map(mapper)
    case .vmsav8Stage2(let mapper): map(mapper)
    }
  }

  /// Unmaps the pages of the range up to the first hole.
  package func unmap(_ iova: IOVA, length: UInt64) -> UnmapResult {
    switch table {
    case .amdGuest(let mapper): mapper.unmap(iova, length: length)
    case .amdv1(let mapper): mapper.unmap(iova, length: length)
    case .amdv1Mock(let mapper): mapper.unmap(iova, length: length)
    case .vtdFirstStage(let mapper): mapper.unmap(iova, length: length)
    case .vtdSecondStage(let mapper): mapper.unmap(iova, length: length)
    case .vmsav8Stage1(let mapper): mapper.unmap(iova, length: length)
    case .vmsav8Stage2(let mapper): mapper.unmap(iova, length: length)
    }
  }

  /// Frees tables that an operation retired. No walk may still use them.
  package func free(_ retired: RetiredTables) {
    retired.forEach { memory.freeTable($0, isClear: retired.areClear) }
  }

  /// Returns the physical address that `iova` is mapped to.
  /// - Parameter iova: an address that the table's levels span.
  package func physicalAddress(of iova: IOVA) -> PhysicalAddress? {
    switch table {
    case .amdGuest(let mapper): mapper.physicalAddress(of: iova)
    case .amdv1(let mapper): mapper.physicalAddress(of: iova)
    case .amdv1Mock(let mapper): mapper.physicalAddress(of: iova)
    case .vtdFirstStage(let mapper): mapper.physicalAddress(of: iova)
    case .vtdSecondStage(let mapper): mapper.physicalAddress(of: iova)
    case .vmsav8Stage1(let mapper): mapper.physicalAddress(of: iova)
    case .vmsav8Stage2(let mapper): mapper.physicalAddress(of: iova)
    }
  }

  /// Reports the dirty pages, as ``RadixMapper/readDirty(_:clearing:_:)``.
  /// - Parameter range: addresses that the table's levels span.
  package func readDirty(
    _ range: ClosedRange<IOVA>, clearing: Bool, _ report: (IOVA, UInt64) -> Void
  ) {
    switch table {
    case .amdGuest(let mapper): mapper.readDirty(range, clearing: clearing, report)
    case .amdv1(let mapper): mapper.readDirty(range, clearing: clearing, report)
    case .amdv1Mock(let mapper): mapper.readDirty(range, clearing: clearing, report)
    case .vtdFirstStage(let mapper): mapper.readDirty(range, clearing: clearing, report)
    case .vtdSecondStage(let mapper): mapper.readDirty(range, clearing: clearing, report)
    case .vmsav8Stage1(let mapper): mapper.readDirty(range, clearing: clearing, report)
    case .vmsav8Stage2(let mapper): mapper.readDirty(range, clearing: clearing, report)
    }
  }

  /// Sets the dirty flag of the page at `iova`, an address that the table's levels span.
  /// - Returns: whether a page is mapped there.
  package func setDirty(_ iova: IOVA) -> Bool {
    switch table {
    case .amdGuest(let mapper): mapper.setDirty(iova)
    case .amdv1(let mapper): mapper.setDirty(iova)
    case .amdv1Mock(let mapper): mapper.setDirty(iova)
    case .vtdFirstStage(let mapper): mapper.setDirty(iova)
    case .vtdSecondStage(let mapper): mapper.setDirty(iova)
    case .vmsav8Stage1(let mapper): mapper.setDirty(iova)
    case .vmsav8Stage2(let mapper): mapper.setDirty(iova)
    }
  }

  /// Frees the whole table. No unit may still use it.
  package func destroy() {
    switch table {
    case .amdGuest(let mapper): mapper.destroy()
    case .amdv1(let mapper): mapper.destroy()
    case .amdv1Mock(let mapper): mapper.destroy()
    case .vtdFirstStage(let mapper): mapper.destroy()
    case .vtdSecondStage(let mapper): mapper.destroy()
    case .vmsav8Stage1(let mapper): mapper.destroy()
    case .vmsav8Stage2(let mapper): mapper.destroy()
    }
  }
}

extension RadixMapper {
  fileprivate var description: (pageSizes: UInt64, root: PhysicalAddress, topLevel: Int) {
    (pageSizes, root, topLevel)
  }
}

extension AMDv1Format {
  /// Returns the page sizes of a table. A page must be smaller than half of what the table spans.
  /// generic_pt: get_info()
  fileprivate static func sizes(levels: Int, addressBits: Int) -> UInt64 {
    let sizes = (0..<levels).reduce(0) { $0 | possibleSizes(level: $1) }
    return sizes & (1 << UInt64(min(addressBits, tableShift(levels - 1)) - 1) - 1)
  }
}

// A kernel-managed page table, whatever its format: what a driver's domain holds.
//
// A closed enum rather than an existential: one switch per operation, and everything below it is
// specialised code.

package import SystemPackage

package struct PagingTable: Sendable {
  private enum Table: Sendable {
    case vtdSecondStage(RadixMapper<VTdSecondStage>)
  }

  private let table: Table
  private let memory: PhysicalMemory
  package let pageSizes: UInt64

  /// A VT-d second-stage table.
  /// - Parameters:
  ///   - levels: 3 to 5.
  ///   - pageSizes: bit n: pages of 2^n bytes may be used; 4 KiB always.
  package init(
    vtdSecondStageLevels levels: Int, pageSizes: UInt64, memory: PhysicalMemory
  ) throws(Errno) {
    guard (3...5).contains(levels) else { throw .notSupported }
    self.memory = memory
    self.pageSizes = pageSizes & (1 << 12 | 1 << 21 | 1 << 30) | 1 << 12
    table = .vtdSecondStage(
      try RadixMapper(topLevel: levels - 1, pageSizes: self.pageSizes, memory: memory))
  }

  /// What the unit is to be given.
  package var root: PhysicalAddress {
    switch table {
    case .vtdSecondStage(let mapper): mapper.root
    }
  }

  package var topLevel: Int {
    switch table {
    case .vtdSecondStage(let mapper): mapper.topLevel
    }
  }

  /// Maps `length` bytes with the largest pages that fit.
  /// - Returns: the bytes that are mapped, `length` unless there is an error, and tables to be freed
  ///   after an invalidation.
  package func map(
    _ iova: IOVA, to physical: PhysicalAddress, length: UInt64, permissions: Permissions,
    snoops: Bool
  ) -> (mapped: UInt64, error: Errno?, retired: RetiredTables) {
    switch table {
    case .vtdSecondStage(let mapper):
      var mapping = RadixMapper<VTdSecondStage>.Mapping(
        iova: iova.rawValue, physical: physical.rawValue, left: length,
        permissions: permissions, snoops: snoops)
      let error = mapper.map(&mapping)
      return (length - mapping.left, error, mapping.retired)
    }
  }

  /// Unmaps whole entries of the range up to the first hole.
  package func unmap(_ iova: IOVA, length: UInt64) -> Unmapped {
    switch table {
    case .vtdSecondStage(let mapper): mapper.unmap(iova.rawValue, length: length)
    }
  }

  /// Frees tables that an operation retired. No walk may be in them any more.
  package func free(_ retired: RetiredTables) {
    retired.forEach { memory.freeTable($0) }
  }

  package func physicalAddress(of iova: IOVA) -> PhysicalAddress? {
    switch table {
    case .vtdSecondStage(let mapper): mapper.physicalAddress(of: iova.rawValue)
    }
  }

  /// Frees the whole table. No unit may know it any more.
  package func destroy() {
    switch table {
    case .vtdSecondStage(let mapper): mapper.destroy()
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

// The stream table of one unit (arm-smmu-v3: arm_smmu_init_strtab()). In a unit with two-level
// stream tables, each bus that has devices has a lower-level table.

internal import IOMMU
internal import Synchronization
internal import SystemPackage

final class SMMUv3StreamTable: Sendable {
  /// STRTAB_SPLIT
  private static let split = 8
  /// The size of a two-level table with STRTAB_MAX_L1_ENTRIES upper entries.
  private static let largestSizeBits = split + 17

  let description: SMMUv3Unit.StreamTable
  private let memory: PhysicalMemory
  /// The lower-level tables by the upper bits of the stream ID.
  private let lowerTables = Mutex<[UInt16: PhysicalAddress]>([:])

  init(sizeBits: Int, isTwoLevel: Bool, memory: PhysicalMemory) throws(Errno) {
    self.memory = memory
    // A stream table that is no larger than one lower-level table has one level.
    if isTwoLevel, sizeBits > Self.split {
      let sizeBits = min(sizeBits, Self.largestSizeBits)
      let base = try memory.allocateTable(sizeShift: max(12, sizeBits - Self.split + 3))
      description = .init(base: base, sizeBits: sizeBits, split: Self.split)
    } else {
      let base = try memory.allocateTable(sizeShift: max(12, sizeBits + 6))
      description = .init(base: base, sizeBits: sizeBits, split: nil)
      fill(base, entries: 1 << sizeBits)
    }
  }

  /// Returns the address of the stream table entry of `stream`, and allocates a lower-level table
  /// when there is none (arm-smmu-v3: arm_smmu_init_sid_strtab()).
  /// - Throws: `.outOfRange` for a stream ID behind the table, `.noMemory`.
  func allocateEntry(of stream: RequesterID) throws(Errno) -> PhysicalAddress {
    let number = UInt64(stream.rawValue)
    guard number >> UInt64(description.sizeBits) == 0 else { throw .outOfRange }
    guard description.split != nil else {
      return description.base.advanced(by: number * StreamTableEntry.size)
    }
    let table = try allocateLowerTable(stream.rawValue >> UInt16(Self.split))
    let index = number & (1 << UInt64(Self.split) - 1)
    return table.advanced(by: index * StreamTableEntry.size)
  }

  private func allocateLowerTable(_ index: UInt16) throws(Errno) -> PhysicalAddress {
    try lowerTables.withLock { tables throws(Errno) in
      if let table = tables[index] { return table }
      let table = try memory.allocateTable(sizeShift: Self.split + 6)
      fill(table, entries: 1 << Self.split)
      memory.storeEntry(
        StreamTableDescriptor.make(table: table, span: Self.split + 1),
        at: description.base.advanced(by: UInt64(index) * StreamTableDescriptor.size))
      tables[index] = table
      return table
    }
  }

  /// Makes every stream table entry of a table abort transactions.
  private func fill(_ table: PhysicalAddress, entries: Int) {
    for index in 0..<UInt64(entries) {
      memory.storeEntry(
        StreamTableEntry.aborting.words, at: table.advanced(by: index * StreamTableEntry.size))
    }
  }
}

extension StreamTableEntry {
  /// arm-smmu-v3: arm_smmu_make_abort_ste()
  static var aborting: StreamTableEntry {
    var entry = StreamTableEntry()
    entry.isValid = true
    entry.configuration = .abort
    return entry
  }
}

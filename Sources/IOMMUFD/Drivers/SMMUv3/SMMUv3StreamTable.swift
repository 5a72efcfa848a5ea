// The stream table of one unit: two levels where the unit has them, with a lower table for each bus that
// has devices. arm-smmu-v3: arm_smmu_init_strtab()

internal import IOMMU
internal import Synchronization
internal import SystemPackage

final class SMMUv3StreamTable: Sendable {
  /// STRTAB_SPLIT
  private static let split = 8

  let description: SMMUv3Unit.StreamTable
  private let memory: PhysicalMemory
  /// Lower tables by the upper bits of the stream.
  private let lowerTables = Mutex<[UInt16: PhysicalAddress]>([:])

  init(sizeBits: Int, isTwoLevel: Bool, memory: PhysicalMemory) throws(Errno) {
    self.memory = memory
    // A table that is no larger than a lower one needs no upper one.
    if isTwoLevel, sizeBits > Self.split {
      let base = try memory.allocateTable(sizeShift: max(12, sizeBits - Self.split + 3))
      description = .init(base: base, sizeBits: sizeBits, split: Self.split)
    } else {
      let base = try memory.allocateTable(sizeShift: max(12, sizeBits + 6))
      description = .init(base: base, sizeBits: sizeBits, split: nil)
      fill(base, entries: 1 << sizeBits)
    }
  }

  /// Where the entry of `stream` is, made if need be. arm-smmu-v3: arm_smmu_init_sid_strtab()
  func place(of stream: RequesterID) throws(Errno) -> PhysicalAddress {
    let number = UInt64(stream.rawValue)
    guard number >> UInt64(description.sizeBits) == 0 else { throw .outOfRange }
    guard description.split != nil else {
      return PhysicalAddress(description.base.rawValue + number * StreamTableEntry.size)
    }
    let table = try lowerTable(stream.rawValue >> UInt16(Self.split))
    let index = number & (1 << UInt64(Self.split) - 1)
    return PhysicalAddress(table.rawValue + index * StreamTableEntry.size)
  }

  private func lowerTable(_ index: UInt16) throws(Errno) -> PhysicalAddress {
    try lowerTables.withLock { tables throws(Errno) in
      if let table = tables[index] { return table }
      let table = try memory.allocateTable(sizeShift: Self.split + 6)
      fill(table, entries: 1 << Self.split)
      let place = description.base.rawValue + UInt64(index) * StreamTableDescriptor.size
      memory.storeEntry(
        StreamTableDescriptor.make(table: table, span: Self.split + 1),
        at: PhysicalAddress(place))
      tables[index] = table
      return table
    }
  }

  /// Makes every stream of a table abort.
  private func fill(_ table: PhysicalAddress, entries: Int) {
    for index in 0..<UInt64(entries) {
      memory.storeEntry(
        StreamTableEntry.aborting.words,
        at: PhysicalAddress(table.rawValue + index * StreamTableEntry.size))
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

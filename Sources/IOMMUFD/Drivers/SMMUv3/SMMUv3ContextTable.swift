// SPDX-License-Identifier: Apache-2.0

// The context descriptors of one device: one, or one for each PASID (arm-smmu-v3:
// arm_smmu_alloc_cd_tables(), arm_smmu_alloc_cd_ptr()). `SMMUv3Device` owns the table and guards it
// with its lock.

internal import IOMMU
internal import SystemPackage

struct SMMUv3ContextTable {
  /// log2 of the number of context descriptors.
  let sizeBits: Int
  let format: StreamTableEntry.DescriptorTable
  let base: PhysicalAddress
  private let memory: PhysicalMemory
  /// The lower-level tables by the upper bits of the PASID. A table is never freed.
  private var lowerTables: [UInt32: PhysicalAddress] = [:]
  /// The PASIDs other than 0 that have a context descriptor.
  private(set) var used: Set<PASID> = []

  /// log2 of CTXDESC_L2_ENTRIES.
  private static let leafBits = 10

  init(sizeBits: Int, isTwoLevel: Bool, memory: PhysicalMemory) throws(Errno) {
    self.sizeBits = sizeBits
    self.memory = memory
    if isTwoLevel, sizeBits > Self.leafBits {
      format = .leaves64K
      base = try memory.allocateTable(sizeShift: max(12, sizeBits - Self.leafBits + 3))
    } else {
      format = .linear
      base = try memory.allocateTable(sizeShift: max(12, sizeBits + 6))
    }
  }

  /// Allocates memory for the context descriptor of `pasid`.
  /// - Returns: Whether a lower-level table has been linked. The unit can have cached that there
  ///   was none.
  /// - Throws: `.invalidArgument` for a PASID behind the table, `.noMemory`.
  mutating func reserve(_ pasid: PASID) throws(Errno) -> Bool {
    guard UInt64(pasid.rawValue) >> UInt64(sizeBits) == 0 else { throw .invalidArgument }
    let index = Self.upperIndex(pasid)
    guard format == .leaves64K, lowerTables[index] == nil else { return false }
    let table = try memory.allocateTable(sizeShift: Self.leafBits + 6)
    memory.storeEntry(
      ContextTableDescriptor.make(table: table),
      at: base.advanced(by: UInt64(index) * ContextTableDescriptor.size))
    lowerTables[index] = table
    return true
  }

  /// Stores the context descriptor of a PASID that has memory, or clears it for `nil`
  /// (arm-smmu-v3: arm_smmu_write_cd_entry()).
  mutating func store(_ descriptor: ContextDescriptor?, for pasid: PASID) {
    guard let address = address(of: pasid) else { return }
    memory.storeEntry((descriptor ?? ContextDescriptor()).words, at: address)
    guard pasid.rawValue != 0 else { return }
    if descriptor == nil { used.remove(pasid) } else { used.insert(pasid) }
  }

  private func address(of pasid: PASID) -> PhysicalAddress? {
    if format == .linear {
      return base.advanced(by: UInt64(pasid.rawValue) * ContextDescriptor.size)
    }
    let index = UInt64(pasid.rawValue) & (1 << UInt64(Self.leafBits) - 1)
    return lowerTables[Self.upperIndex(pasid)]?.advanced(by: index * ContextDescriptor.size)
  }

  private static func upperIndex(_ pasid: PASID) -> UInt32 { pasid.rawValue >> UInt32(leafBits) }
}

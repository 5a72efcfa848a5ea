// The context descriptors that the driver makes for one device: one, or one for each of its PASIDs.
// arm-smmu-v3: arm_smmu_alloc_cd_tables(), arm_smmu_alloc_cd_ptr()

internal import IOMMU
internal import SystemPackage

struct SMMUv3ContextTable {
  /// log2 of the descriptors.
  let sizeBits: Int
  let format: StreamTableEntry.DescriptorTable
  let base: PhysicalAddress
  private let memory: PhysicalMemory
  /// Lower tables by the upper bits of the PASID. They stay once made.
  private var lowerTables: [UInt32: PhysicalAddress] = [:]
  /// PASIDs other than 0 that have a descriptor.
  private(set) var used: Set<UInt32> = []

  /// CTXDESC_L2_ENTRIES, as log2.
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

  /// Makes room for the descriptor of `pasid`.
  /// - Returns: whether a lower table was linked, so that the unit must forget that there was none.
  mutating func reserve(_ pasid: UInt32) throws(Errno) -> Bool {
    guard UInt64(pasid) >> UInt64(sizeBits) == 0 else { throw .invalidArgument }
    let upper = pasid >> UInt32(Self.leafBits)
    guard format == .leaves64K, lowerTables[upper] == nil else { return false }
    let table = try memory.allocateTable(sizeShift: Self.leafBits + 6)
    let place = base.rawValue + UInt64(upper) * ContextTableDescriptor.size
    memory.storeEntry(ContextTableDescriptor.make(table: table), at: PhysicalAddress(place))
    lowerTables[upper] = table
    return true
  }

  /// Stores the descriptor of a PASID that has room; nil: none.
  /// arm-smmu-v3: arm_smmu_write_cd_entry()
  mutating func store(_ descriptor: ContextDescriptor?, for pasid: UInt32) {
    guard let place = place(of: pasid) else { return }
    memory.storeEntry((descriptor ?? ContextDescriptor()).words, at: place)
    guard pasid != 0 else { return }
    if descriptor == nil { used.remove(pasid) } else { used.insert(pasid) }
  }

  private func place(of pasid: UInt32) -> PhysicalAddress? {
    if format == .linear {
      return PhysicalAddress(base.rawValue + UInt64(pasid) * ContextDescriptor.size)
    }
    guard let table = lowerTables[pasid >> UInt32(Self.leafBits)] else { return nil }
    let index = UInt64(pasid) & (1 << UInt64(Self.leafBits) - 1)
    return PhysicalAddress(table.rawValue + index * ContextDescriptor.size)
  }
}

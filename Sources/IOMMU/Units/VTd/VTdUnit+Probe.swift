// The inner steps of a translation, in batches: each is too short to be timed one by one, and a
// generic cannot be timed from another module at all. For iommufd-bench and the census.

internal import Synchronization

/// The hardware's view of memory, for a yardstick that is to walk the same tables.
package struct MemoryImage {
  package let base: UnsafeMutableRawPointer
  package let kinds: UnsafeRawPointer
  package let frameCount: UInt64
}

extension PhysicalMemory {
  package var image: MemoryImage {
    MemoryImage(
      base: window.base, kinds: kindBytes, frameCount: 1 << UInt64(addressBits - Frame.shift))
  }
}

extension VTdUnit {
  /// Walks every address for a read.
  /// - Returns: the sum of the frames found.
  package func probeWalks(
    _ addresses: UnsafeBufferPointer<UInt64>, root: PhysicalAddress, topLevel: Int
  ) -> UInt64 {
    let root = TableRoot(address: root, topLevel: topLevel, updatesFlags: false)
    var tables = window
    var sum: UInt64 = 0
    var index = 0
    while index < addresses.count {
      let outcome = RadixWalker<VTdSecondStage>.walk(
        addresses[index], root, access: .read, rules: rules, memory: &tables)
      if case .leaf(let page) = outcome { sum &+= page.physical.rawValue }
      index &+= 1
    }
    return sum
  }

  /// Walks every address for a read, through first-stage tables in a client's memory.
  /// - Parameters:
  ///   - first: the root of a 4-level table, as the second stage's input.
  ///   - second: the root of the 4-level table that says where it is.
  /// - Returns: the sum of the pages found.
  package func probeNestedWalks(
    _ addresses: UnsafeBufferPointer<UInt64>, first: PhysicalAddress, second: PhysicalAddress
  ) -> UInt64 {
    let root = TableRoot(
      address: first, topLevel: 3, updatesFlags: true, options: [.writeProtect])
    let stage = SecondStageTable(
      root: TableRoot(address: second, topLevel: 3, updatesFlags: false),
      lastAddress: 1 << 48 - 1)
    let firstRules = VTdFirstStage.rules(addressBits: memory.addressBits, has1GPages: true)
    return withUnsafePointer(to: rules) { rules in
      var sum: UInt64 = 0
      var index = 0
      while index < addresses.count {
        var tables = NestedTableMemory<VTdSecondStage, GuestTableMemory, FrameWindow>(
          stage, rules: rules, guest: GuestTableMemory(memory), tables: window)
        let outcome = NestedWalker<VTdFirstStage, VTdSecondStage>.walk(
          addresses[index], root, access: .read, rules: firstRules, tables: &tables)
        if case .leaf(let page, _) = outcome { sum &+= page.physical.rawValue }
        index &+= 1
      }
      return sum
    }
  }

  /// Looks every address up in the IOTLB, under one acquisition of the lock.
  /// - Returns: the sum of the frames found.
  package func probeLookups(
    _ addresses: UnsafeBufferPointer<UInt64>, domain: DomainID
  ) -> UInt64 {
    state.withLock { state in
      let tag = IOTLBTag(domain: domain)
      var sum: UInt64 = 0
      var index = 0
      while index < addresses.count {
        if let page = state.iotlb.lookup(tag, addresses[index]) {
          sum &+= page.physical.rawValue
        }
        index &+= 1
      }
      return sum
    }
  }

  /// The reserved bits by level, for a yardstick.
  package var reservedBits: (table: [UInt64], leaf: [UInt64]) { Self.bits(rules) }

  /// The same for first-stage tables.
  package var firstStageReservedBits: (table: [UInt64], leaf: [UInt64]) {
    Self.bits(VTdFirstStage.rules(addressBits: memory.addressBits, has1GPages: true))
  }

  private static func bits(_ rules: EntryRules) -> (table: [UInt64], leaf: [UInt64]) {
    ((0..<6).map { rules.reservedInTable[$0] }, (0..<6).map { rules.reservedInLeaf[$0] })
  }
}

// The two inner steps of a translation, in batches: each is too short to be timed one by one, and a
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

  /// Looks every address up in the IOTLB, under one acquisition of the lock.
  /// - Returns: the sum of the frames found.
  package func probeLookups(
    _ addresses: UnsafeBufferPointer<UInt64>, domain: DomainID
  ) -> UInt64 {
    state.withLock { state in
      let tag = IotlbTag(domain: domain)
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
  package var reservedBits: (table: [UInt64], leaf: [UInt64]) {
    (
      (0..<6).map { rules.reservedInTable[$0] },
      (0..<6).map { rules.reservedInLeaf[$0] }
    )
  }
}

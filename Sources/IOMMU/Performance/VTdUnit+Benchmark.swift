// SPDX-License-Identifier: Apache-2.0

// Batches of the steps of a VT-d translation: IOTLB look-ups, second-stage walks and nested walks.

internal import Synchronization

extension VTdUnit {
  /// Walks a second-stage table for a read of every address.
  /// - Returns: the sum of the frames found.
  package func benchmarkWalks(
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

  /// Walks first-stage tables in a client's memory for a read of every address.
  /// - Parameters:
  ///   - first: the guest physical address of a 4-level first-stage table.
  ///   - second: the 4-level second-stage table that maps the guest's memory.
  /// - Returns: the sum of the pages found.
  package func benchmarkNestedWalks(
    _ addresses: UnsafeBufferPointer<UInt64>, first: PhysicalAddress, second: PhysicalAddress
  ) -> UInt64 {
    let root = TableRoot(
      address: first, topLevel: 3, updatesFlags: true, options: [.writeProtect])
    let secondStage = SecondStageTable(
      root: TableRoot(address: second, topLevel: 3, updatesFlags: false),
      lastAddress: 1 << 48 - 1)
    let firstRules = VTdFirstStage.rules(addressBits: memory.addressBits, has1GPages: true)
    return withUnsafePointer(to: rules) { rules in
      var sum: UInt64 = 0
      var index = 0
      while index < addresses.count {
        var tables = NestedTableMemory<VTdSecondStage, GuestTableMemory, FrameWindow>(
          secondStage, rules: rules, guest: GuestTableMemory(memory), tables: window)
        let outcome = NestedWalker<VTdFirstStage, VTdSecondStage>.walk(
          addresses[index], root, access: .read, rules: firstRules, tables: &tables)
        if case .leaf(let page, _) = outcome { sum &+= page.physical.rawValue }
        index &+= 1
      }
      return sum
    }
  }

  /// Looks up every address in the IOTLB. Takes the unit's lock once.
  /// - Returns: the sum of the frames found.
  package func benchmarkLookups(
    _ addresses: UnsafeBufferPointer<UInt64>, domain: DomainID
  ) -> UInt64 {
    state.withLock { state in
      let tag = IOTLBTag(domain: domain)
      var sum: UInt64 = 0
      var index = 0
      while index < addresses.count {
        if let page = state.iotlb.lookup(tag, IOVA(addresses[index])) {
          sum &+= page.physical.rawValue
        }
        index &+= 1
      }
      return sum
    }
  }

  /// The reserved bits of second-stage entries.
  package var secondStageReservedBits: ReservedBits { rules.reservedBits }

  /// The reserved bits of first-stage entries.
  package var firstStageReservedBits: ReservedBits {
    VTdFirstStage.rules(addressBits: memory.addressBits, has1GPages: true).reservedBits
  }
}

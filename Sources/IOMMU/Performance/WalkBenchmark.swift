// SPDX-License-Identifier: Apache-2.0

/// Batches of walks of one table, for the formats that `VTdUnit` does not walk.
package struct WalkBenchmark {
  package enum Format: CaseIterable, Sendable {
    case amdHost, armStage1, armStage2
  }

  private let format: Format
  private let window: FrameWindow
  private let root: TableRoot
  private let table: VMSAv8Table
  private let rules: EntryRules

  /// - Parameters:
  ///   - address: the root of a table with four levels of 512 entries.
  ///   - memory: must outlive the benchmark.
  package init?(_ format: Format, root address: PhysicalAddress, memory: PhysicalMemory) {
    guard
      let table = format == .armStage2
        ? VMSAv8Table(
          stage2: address, granule: .size4K, inputSize: 16, startLevel: 0, outputBits: 48)
        : VMSAv8Table(stage1: address, granule: .size4K, inputSize: 16, outputBits: 48)
    else { return nil }
    self.format = format
    self.table = table
    window = memory.window
    root = TableRoot(address: address, topLevel: 3, updatesFlags: false)
    rules = AMDv1.rules(addressBits: memory.addressBits)
  }

  /// Walks the table for a read of every address.
  /// - Returns: the sum of the pages found.
  package func walks(_ addresses: UnsafeBufferPointer<UInt64>) -> UInt64 {
    switch format {
    case .amdHost: amdWalks(addresses)
    case .armStage1: stage1Walks(addresses)
    case .armStage2: stage2Walks(addresses)
    }
  }

  @inline(never)
  private func amdWalks(_ addresses: UnsafeBufferPointer<UInt64>) -> UInt64 {
    var tables = window
    return Self.sum(addresses) {
      RadixWalker<AMDv1>.walk($0, root, access: .read, rules: rules, memory: &tables)
    }
  }

  @inline(never)
  private func stage1Walks(_ addresses: UnsafeBufferPointer<UInt64>) -> UInt64 {
    var tables = window
    return Self.sum(addresses) {
      VMSAv8.walk(stage1: table, $0, access: .read, memory: &tables)
    }
  }

  @inline(never)
  private func stage2Walks(_ addresses: UnsafeBufferPointer<UInt64>) -> UInt64 {
    var tables = window
    return Self.sum(addresses) {
      VMSAv8.walk(stage2: table, $0, access: .read, memory: &tables)
    }
  }

  @inline(__always)
  private static func sum(
    _ addresses: UnsafeBufferPointer<UInt64>, _ walk: (UInt64) -> WalkOutcome
  ) -> UInt64 {
    var sum: UInt64 = 0
    var index = 0
    while index < addresses.count {
      if case .leaf(let page) = walk(addresses[index]) { sum &+= page.physical.rawValue }
      index &+= 1
    }
    return sum
  }

  /// The reserved bits of AMD host table entries.
  package var reservedBits: ReservedBits { rules.reservedBits }
}

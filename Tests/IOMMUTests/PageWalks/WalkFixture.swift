// SPDX-License-Identifier: Apache-2.0

// The walker against the reference in random cases. A case depends only on its seed, which a
// failure prints. A run has a few dozen cases for each format unless IOMMUFD_SIM_WALK_CASES has
// another number (`scripts/test walks`: millions of translations).

import Foundation
import TestSupport
import Testing

@testable import IOMMU

/// The physical memory of the cases of one test.
struct WalkFixture {
  static let translationsPerCase = 250

  let memory: PhysicalMemory
  private let pool: PhysicalAddress
  private let unit: UInt64
  private let cases: UInt64

  /// - Parameters:
  ///   - unit: log2 of the size of the largest table.
  ///   - cases: The number of cases without IOMMUFD_SIM_WALK_CASES.
  init(unit: UInt64, cases: UInt64) throws {
    self.unit = unit
    let asked = ProcessInfo.processInfo.environment["IOMMUFD_SIM_WALK_CASES"]
    self.cases = asked.flatMap(UInt64.init) ?? cases
    memory = try PhysicalMemory(.test)
    pool = try memory.allocateTable(
      sizeShift: Int(unit) + WalkCase.frameCount.trailingZeroBitCount)
  }

  /// Runs the cases with seeds from 1 on until walker and reference differ.
  /// - Parameter outcomes: Words that the verdicts of the run must contain, so that the cases cover
  ///   them. At least one translation in 20 must succeed.
  func explore(
    _ name: String, outcomes: [String], _ body: (inout WalkCase) -> String?
  ) {
    var (pages, total) = (0, 0)
    var seen: Set<String> = []
    for seed in 1...cases {
      var walk = WalkCase(seed: seed, memory: memory, pool: pool, unit: unit)
      if let difference = body(&walk) ?? walk.difference() {
        Issue.record("\(name), seed \(seed): \(difference)")
        return
      }
      (pages, total) = (pages + walk.pages, total + Self.translationsPerCase)
      seen.formUnion(outcomes.filter { word in walk.verdicts.contains { $0.contains(word) } })
    }
    #expect(pages > total / 20, "\(name): \(pages) pages in \(total) translations")
    #expect(seen == Set(outcomes), "\(name)")
  }
}

extension WalkCase {
  /// Translates random addresses with walker and reference until they differ.
  /// - Parameters:
  ///   - isPlain: Whether the tables have only read and write permissions, so that no other access
  ///     is made.
  ///   - input: Makes an address.
  /// - Returns: The difference, or `nil`.
  mutating func translate(
    isPlain: Bool = false, input: (inout WalkCase) -> UInt64,
    ours: (UInt64, Permissions) -> String,
    reference: (UInt64, ReferenceAccess) throws -> ReferencePage
  ) -> String? {
    for _ in 0..<WalkFixture.translationsPerCase {
      let address = input(&self)
      var access = ReferenceAccess.random(&random)
      if isPlain { (access.isExecute, access.isPrivileged) = (false, false) }
      let expected = verdict {
        let page = try reference(address, access)
        return isPlain ? page.plain : page
      }
      record(expected)
      let found = ours(address, access.permissions)
      guard found == expected else {
        return "\(access) of \(String(address, radix: 16)): \(found), not \(expected)"
      }
    }
    return nil
  }

  /// The frames that the entries of a frame point to in a case with two stages. Frames 0 to 15 are
  /// tables of the second stage, four for each level. The others are tables of the first stage and
  /// pages of the second.
  static func framesBelow(_ frame: UInt64) -> Range<UInt64> {
    (4..<16).contains(frame) ? (frame / 4 - 1) * 4..<frame / 4 * 4 : 16..<32
  }
}

extension WalkFixture {
  /// Walks the tables of a host: one stage with read and write permissions only.
  func walkHost<Format: WalkableFormat>(
    _: Format.Type, _ table: TableRoot, _ rules: EntryRules, _ address: UInt64,
    _ access: Permissions
  ) -> String {
    var window = memory.window
    return RadixWalker<Format>.walk(
      address, table, access: access, rules: rules, memory: &window
    ).text(address)
  }
}

extension ReferencePage {
  fileprivate var plain: ReferencePage {
    ReferencePage(
      physical: physical, sizeShift: sizeShift, rights: rights.intersection("rw"))
  }
}

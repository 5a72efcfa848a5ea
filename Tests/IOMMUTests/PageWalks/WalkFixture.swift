// The walker against the reference, in random cases. A failure names its seed; cases are made from
// nothing else. An everyday run has a few dozen for each format; IOMMUFD_SIM_WALK_CASES says
// otherwise (`scripts/test walks`: millions of translations).

import Foundation
import TestSupport
import Testing

@testable import IOMMU

/// A machine in which cases are made.
struct WalkFixture {
  static let translationsPerCase = 250

  let memory: PhysicalMemory
  private let pool: PhysicalAddress
  private let unit: UInt64
  private let cases: UInt64

  /// - Parameters:
  ///   - unit: log2 of the largest table.
  ///   - cases: how many there are in an everyday run.
  init(unit: UInt64, cases: UInt64) throws {
    self.unit = unit
    let asked = ProcessInfo.processInfo.environment["IOMMUFD_SIM_WALK_CASES"]
    self.cases = asked.flatMap(UInt64.init) ?? cases
    memory = try PhysicalMemory(.test)
    pool = try memory.allocateTable(
      sizeShift: Int(unit) + WalkCase.frameCount.trailingZeroBitCount)
  }

  /// Worlds from 1 on; the first that disagrees ends the test, for the others say the same.
  /// - Parameter outcomes: words that some verdict of an everyday run must contain, or the cases
  ///   are not what they are meant to be. That one translation in 20 succeeds goes without saying.
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
  /// Makes translations with both, until they disagree.
  /// - Parameters:
  ///   - isPlain: the tables know only reading and writing, so nothing else is asked for.
  ///   - input: an address.
  /// - Returns: how they disagree; nil: they agree.
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

  /// The frames that entries of a frame lead to in a world of two stages: frames 0 to 15 are the second
  /// stage's, four for each level; the others are the first stage's, and what the second leads to.
  static func framesBelow(_ frame: UInt64) -> Range<UInt64> {
    (4..<16).contains(frame) ? (frame / 4 - 1) * 4..<frame / 4 * 4 : 16..<32
  }
}

extension WalkFixture {
  /// What the walker makes of an address in tables that know one stage and only reading and writing.
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

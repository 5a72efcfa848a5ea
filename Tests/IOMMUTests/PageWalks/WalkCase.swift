// SPDX-License-Identifier: Apache-2.0

// A random case: a few frames of tables whose entries are mostly valid. The fixture's memory and
// the reference's memory contain the same words.

import TestSupport

@testable import IOMMU

struct WalkCase {
  static let frameCount: UInt64 = 32

  let memory: PhysicalMemory
  let reference: ReferenceMemory
  let pool: PhysicalAddress
  /// log2 of the frame size, which is that of the largest table.
  let unit: UInt64
  var random: SeededGenerator
  /// The different verdicts, and the number of those that were pages.
  private(set) var verdicts: Set<String> = []
  private(set) var pages = 0
  /// The indexes of the entries that are in use in every frame: those of the pool's addresses at
  /// each level and granule, and a few more.
  private let slots: [UInt64]

  init(seed: UInt64, memory: PhysicalMemory, pool: PhysicalAddress, unit: UInt64) {
    self.memory = memory
    self.pool = pool
    self.unit = unit
    reference = ReferenceMemory(
      base: pool.rawValue, words: Int(Self.frameCount << unit) / 8)
    random = SeededGenerator(seed: seed)
    var slots: Set<UInt64> = [0, 1, 2]
    for granule: UInt64 in [12, 14, 16] where granule <= unit {
      let mask = UInt64(1) << (granule - 3) - 1
      slots.insert(mask)
      for frame in 0..<Self.frameCount {
        let address = pool.rawValue + frame << unit
        for shift in stride(from: granule, to: 56, by: Int(granule) - 3) {
          slots.insert(address >> shift & mask)
        }
      }
    }
    self.slots = slots.sorted()
  }

  /// Returns the address of a random frame of the pool.
  mutating func frame(_ frames: Range<UInt64> = 0..<frameCount) -> UInt64 {
    pool.rawValue + UInt64.random(in: frames, using: &random) << unit
  }

  /// Returns an address for an entry: mostly that of one of `frames`, rarely any other.
  mutating func target(_ frames: Range<UInt64> = 0..<frameCount) -> UInt64 {
    switch random.next() % 40 {
    case 0: random.next() & 0x000f_ffff_ffff_f000
    case 1: frame() + (random.next() % 4) << 30
    case 2: frame()
    default: frame(frames)
    }
  }

  /// Returns true in one of `count` calls.
  mutating func rarely(_ count: UInt64) -> Bool { random.next() % count == 0 }

  /// Fills the entries that are in use. All others are zero.
  /// - Parameter make: Makes an entry of the frame with the given number.
  mutating func fill(_ make: (inout WalkCase, UInt64) -> UInt64) {
    for frame in 0..<Self.frameCount {
      for slot in slots {
        let place = frame << unit + slot * 8
        let entry = make(&self, frame)
        reference.words[Int(place / 8)] = entry
        memory.storeEntry(entry, at: PhysicalAddress(pool.rawValue + place))
      }
    }
  }

  /// Counts a verdict.
  mutating func record(_ verdict: String) {
    verdicts.insert(verdict)
    if verdict.contains("2^") { pages += 1 }
  }

  /// Returns a description of the first entry that differs from the reference, or `nil`.
  func difference() -> String? {
    for frame in 0..<Self.frameCount {
      for slot in slots {
        let place = frame << unit + slot * 8
        let word = reference.words[Int(place / 8)]
        let ours = memory.word(at: PhysicalAddress(pool.rawValue + place)) ?? 0
        if ours != word {
          return "\(String(place, radix: 16)): \(String(ours, radix: 16)), "
            + "not \(String(word, radix: 16))"
        }
      }
    }
    return nil
  }
}

extension ReferenceAccess {
  static func random(_ random: inout SeededGenerator) -> ReferenceAccess {
    let kind = random.next() % 8
    return ReferenceAccess(
      isWrite: kind < 3, isExecute: kind == 3, isPrivileged: random.next() % 3 == 0)
  }

  var permissions: Permissions {
    let access: Permissions = isWrite ? .write : isExecute ? .execute : .read
    return isPrivileged ? access.privileged : access
  }
}

extension Permissions {
  var letters: String {
    let all: [(Permissions, Character)] = [
      (.privilegedRead, "R"), (.privilegedWrite, "W"), (.privilegedExecute, "X"),
      (.read, "r"), (.write, "w"), (.execute, "x"),
    ]
    return String(all.filter { contains($0.0) }.map(\.1).sorted())
  }
}

extension WalkFault {
  /// The text of the reference's fault.
  var text: String {
    switch self {
    case .inaccessible(let level): "inaccessible \(level)"
    case .reserved(let level): "reserved \(level)"
    case .absent(let level): "absent \(level)"
    case .outputTooWide(let level): "too wide \(level)"
    case .accessFlagClear(let level): "unused \(level)"
    case .denied(let level, let allowed): "denied \(level) \(allowed.letters)"
    case .unwritable(let level): "unwritable \(level)"
    case .inputTooWide: "beyond"
    }
  }
}

extension NestedFault {
  var text: String {
    switch self {
    case .first(let fault):
      return fault.text
    case .second(let fault, let address, let use):
      let purpose =
        switch use {
        case .entry(let level): "entry \(level)"
        case .flags(let level): "flags \(level)"
        case .data: "data"
        }
      return "second \(fault.text) at \(String(address, radix: 16)) for \(purpose)"
    }
  }
}

extension Translation {
  func text(_ address: UInt64) -> String {
    "\(String(self.address(of: address).rawValue, radix: 16)) of 2^\(shift) \(permissions.letters)"
  }
}

extension WalkOutcome {
  func text(_ address: UInt64) -> String {
    switch self {
    case .leaf(let page): page.text(address)
    case .fault(let fault): fault.text
    }
  }
}

extension NestedOutcome {
  func text(_ address: UInt64) -> String {
    switch self {
    case .leaf(let page, _): page.text(address)
    case .fault(let fault): fault.text
    }
  }
}

/// Returns the page or the fault of the reference as text.
func verdict(_ translate: () throws -> ReferencePage) -> String {
  do { return try translate().description } catch { return "\(error)" }
}

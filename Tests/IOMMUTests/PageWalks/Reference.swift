// SPDX-License-Identifier: Apache-2.0

// Reference implementations of the page table formats of the specifications, written for clarity:
// recursion, strings, and an array as memory. They share only the names of the faults with the
// walker.

/// The fault of a reference translation, as text for the output of a failing test.
struct ReferenceFault: Error, Equatable, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
  init(_ what: String, _ level: Int) { description = "\(what) \(level)" }
}

/// The access of a translation.
struct ReferenceAccess: CustomStringConvertible {
  var isWrite = false
  var isExecute = false
  var isPrivileged = false

  var description: String {
    (isPrivileged ? "privileged " : "") + (isWrite ? "write" : isExecute ? "execute" : "read")
  }
}

/// The physical address, the page size and the permissions of a translation.
struct ReferencePage: Equatable, CustomStringConvertible {
  let physical: UInt64
  let sizeShift: Int
  /// "rwx" for unprivileged requests and "RWX" for privileged requests.
  let rights: Set<Character>

  var description: String {
    "\(String(physical, radix: 16)) of 2^\(sizeShift) \(String(rights.sorted()))"
  }
}

/// Memory of 64-bit words from `base` on. Other addresses have no memory.
final class ReferenceMemory {
  let base: UInt64
  var words: [UInt64]

  init(base: UInt64, words: Int) {
    self.base = base
    self.words = Array(repeating: 0, count: words)
  }

  private func index(_ address: UInt64) -> Int? {
    guard address >= base, address < base + UInt64(words.count) * 8 else { return nil }
    return Int((address - base) / 8)
  }

  func read(_ address: UInt64, _ level: Int) throws -> UInt64 {
    guard let index = index(address) else { throw ReferenceFault("inaccessible", level) }
    return words[index]
  }

  func write(_ word: UInt64, _ address: UInt64, _ level: Int) throws {
    guard let index = index(address) else { throw ReferenceFault("unwritable", level) }
    words[index] = word
  }
}

/// Reads and writes the entries of a table, directly or through a second stage.
protocol ReferenceStage {
  func read(_ address: UInt64, _ level: Int) throws -> UInt64
  func write(_ word: UInt64, _ address: UInt64, _ level: Int) throws
}

extension ReferenceMemory: ReferenceStage {}

/// Nested translation: VT-d §3.8, AMD 48882 §2.2.4, DDI 0487 D8.2.
struct ReferenceNesting: ReferenceStage {
  let memory: ReferenceMemory
  let second: (UInt64, ReferenceAccess) throws -> ReferencePage

  private func translated(
    _ address: UInt64, _ access: ReferenceAccess, _ use: String
  ) throws -> UInt64 {
    do {
      return try second(address, access).physical
    } catch let fault as ReferenceFault {
      throw ReferenceFault("second \(fault) at \(String(address, radix: 16)) for \(use)")
    }
  }

  func read(_ address: UInt64, _ level: Int) throws -> UInt64 {
    try memory.read(translated(address, ReferenceAccess(), "entry \(level)"), level)
  }

  func write(_ word: UInt64, _ address: UInt64, _ level: Int) throws {
    let access = ReferenceAccess(isWrite: true)
    try memory.write(word, translated(address, access, "flags \(level)"), level)
  }

  /// Translates the output of the first stage by the second stage, for data.
  func combine(_ first: ReferencePage, _ access: ReferenceAccess) throws -> ReferencePage {
    let page: ReferencePage
    do {
      page = try second(first.physical, access)
    } catch let fault as ReferenceFault {
      throw ReferenceFault(
        "second \(fault) at \(String(first.physical, radix: 16)) for data")
    }
    let rights = first.rights.intersection(page.rights)
    return ReferencePage(
      physical: page.physical, sizeShift: min(first.sizeShift, page.sizeShift), rights: rights)
  }
}

func bit(_ number: Int, of word: UInt64) -> Bool { word >> UInt64(number) & 1 == 1 }

/// Returns bits `high` to `low` of a word at their positions.
func bits(_ high: Int, _ low: Int, of word: UInt64) -> UInt64 {
  var result: UInt64 = 0
  for number in stride(from: low, through: high, by: 1) where bit(number, of: word) {
    result |= 1 << UInt64(number)
  }
  return result
}

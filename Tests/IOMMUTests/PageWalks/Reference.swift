// What the specifications say about page tables, as plainly as it can be said: recursion, strings,
// a dictionary for memory. It shares nothing with the walker but the words for what went wrong.

/// Why a reference translation ended. Text, so that a failing test can be read.
struct ReferenceFault: Error, Equatable, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
  init(_ what: String, _ level: Int) { description = "\(what) \(level)" }
}

/// What an access is.
struct ReferenceAccess: CustomStringConvertible {
  var isWrite = false
  var isExecute = false
  var isPrivileged = false

  var description: String {
    (isPrivileged ? "privileged " : "") + (isWrite ? "write" : isExecute ? "execute" : "read")
  }
}

/// Where an address is, and how much around it goes the same way.
struct ReferencePage: Equatable, CustomStringConvertible {
  let physical: UInt64
  let sizeShift: Int
  /// Of "rwx" for requests without privilege and "RWX" for those with it.
  let rights: Set<Character>

  var description: String {
    "\(String(physical, radix: 16)) of 2^\(sizeShift) \(String(rights.sorted()))"
  }
}

/// Memory of 64-bit words from `base` on; an address that is not in it is not memory.
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

/// How a table's own entries are reached: at once, or by way of a second stage.
protocol ReferenceStage {
  func read(_ address: UInt64, _ level: Int) throws -> UInt64
  func write(_ word: UInt64, _ address: UInt64, _ level: Int) throws
}

extension ReferenceMemory: ReferenceStage {}

/// A second stage below a first: VT-d §3.8, AMD 48882 §2.2.4, DDI 0487 D8.2.
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

  /// The two stages together, for data.
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

/// Bits `high` to `low` of a word, where they are.
func bits(_ high: Int, _ low: Int, of word: UInt64) -> UInt64 {
  var result: UInt64 = 0
  for number in stride(from: low, through: high, by: 1) where bit(number, of: word) {
    result |= 1 << UInt64(number)
  }
  return result
}

// A random world: a few frames of tables full of entries that mostly make sense, in the machine's
// memory and, word for word, in the reference's.

@testable import IOMMU

struct WalkWorld {
  /// All of the block that is allocated for them.
  static let frameCount = 32

  let memory: PhysicalMemory
  let reference = ReferenceMemory()
  let pool: PhysicalAddress
  var random: SeededGenerator
  /// Verdicts so far: each once, and how many were pages.
  private(set) var verdicts: Set<String> = []
  private(set) var pages = 0
  /// Indexes of entries that are in use in every frame.
  private let slots: [UInt64]

  init(seed: UInt64, memory: PhysicalMemory, pool: PhysicalAddress, entryBits: Int = 9) {
    self.memory = memory
    self.pool = pool
    random = SeededGenerator(seed: seed)
    let mask = UInt64(1) << UInt64(entryBits) - 1
    // What the addresses that `address` makes use on each level, for any granule.
    var slots: Set<UInt64> = [0, 1, 2, mask]
    for frame in 0..<UInt64(Self.frameCount) {
      let address = pool.rawValue + frame << 12
      for shift in stride(from: UInt64(12), to: 57, by: 1) { slots.insert(address >> shift & mask) }
    }
    self.slots = slots.sorted()
  }

  /// The address of a frame of the pool.
  mutating func frame(_ frames: Range<UInt64> = 0..<UInt64(frameCount)) -> UInt64 {
    pool.rawValue + UInt64.random(in: frames, using: &random) << 12
  }

  /// An address that entries hold: mostly one of `frames`, now and then anything.
  mutating func target(_ frames: Range<UInt64> = 0..<UInt64(frameCount)) -> UInt64 {
    switch random.next() % 40 {
    case 0: random.next() & 0x000f_ffff_ffff_f000
    case 1: frame() + (random.next() % 4) << 30
    case 2: frame()
    default: frame(frames)
    }
  }

  /// True once in `count` times.
  mutating func rarely(_ count: UInt64) -> Bool { random.next() % count == 0 }

  /// Fills the pool.
  /// - Parameter make: an entry for a frame, given by its number.
  mutating func fill(_ make: (inout WalkWorld, UInt64) -> UInt64) {
    reference.words = [:]
    for index in 0..<UInt64(Self.frameCount) * 512 {
      reference.words[pool.rawValue + index * 8] = 0
    }
    for frame in 0..<UInt64(Self.frameCount) {
      for slot in slots where slot < 512 {
        let place = pool.rawValue + frame << 12 + slot * 8
        let entry = make(&self, frame)
        reference.words[place] = entry
        memory.storeEntry(entry, at: PhysicalAddress(place))
      }
    }
  }

  /// Takes a verdict into account.
  mutating func note(_ verdict: String) {
    verdicts.insert(verdict)
    if verdict.contains("2^") { pages += 1 }
  }

  /// Words that differ from the reference's.
  func differences() -> [String] {
    var found: [String] = []
    for (address, word) in reference.words {
      let ours = memory.word(at: PhysicalAddress(address))
      if ours != word {
        found.append(
          "\(String(address, radix: 16)): \(String(ours ?? 0, radix: 16)), "
            + "not \(String(word, radix: 16))")
      }
    }
    return found
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
  /// As the reference says it.
  var text: String {
    switch self {
    case .inaccessible(let level): "inaccessible \(level)"
    case .reserved(let level): "reserved \(level)"
    case .absent(let level): "absent \(level)"
    case .tooWide(let level): "too wide \(level)"
    case .unused(let level): "unused \(level)"
    case .denied(let level, let allowed): "denied \(level) \(allowed.letters)"
    case .unwritable(let level): "unwritable \(level)"
    case .beyond: "beyond"
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
    "\(String(place(of: address).rawValue, radix: 16)) of 2^\(shift) \(permissions.letters)"
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

/// What the reference says, in the same words.
func verdict(_ translate: () throws -> ReferencePage) -> String {
  do { return try translate().description } catch { return "\(error)" }
}

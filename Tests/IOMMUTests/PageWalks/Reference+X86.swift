// SPDX-License-Identifier: Apache-2.0

// VT-d §3.6 First-Stage Translation, §9.7; APM volume 2 §5.3, §5.6.

struct ReferenceX86 {
  var levels = 4
  var addressBits = 46
  var has1GPages = true
  var writeProtect = false
  var executeDisable = false
  var executeDisableIsReserved = false
  var executeProtect = false
  /// Whether the walk sets A and D.
  var keepsFlags = true
  var keepsExtended = false
  let stage: any ReferenceStage

  func translate(
    _ address: UInt64, root: UInt64, access: ReferenceAccess
  ) throws -> ReferencePage {
    let width = 12 + 9 * levels
    let above = Set((width - 1..<64).map { bit($0, of: address) })
    guard above.count == 1 else { throw ReferenceFault("beyond") }
    return try step(
      address, table: root, level: levels - 1, access: access, w: true, u: true, x: true)
  }

  private func step(
    _ address: UInt64, table: UInt64, level: Int, access: ReferenceAccess, w: Bool, u: Bool,
    x: Bool
  ) throws -> ReferencePage {
    let low = 12 + 9 * level
    let place = table + bits(low + 8, low, of: address) >> UInt64(low) * 8
    let entry = try stage.read(place, level)
    guard bit(0, of: entry) else { throw ReferenceFault("absent", level) }
    let isLeaf = level == 0 || (bit(7, of: entry) && level <= 2)

    var reserved = bits(51, addressBits, of: entry)
    if level >= 3 { reserved |= bits(7, 7, of: entry) }
    if level == 2 && isLeaf { reserved |= has1GPages ? bits(29, 13, of: entry) : 1 }
    if level == 1 && isLeaf { reserved |= bits(20, 13, of: entry) }
    if executeDisableIsReserved { reserved |= bits(63, 63, of: entry) }
    guard reserved == 0 else { throw ReferenceFault("reserved", level) }

    let (w, u, x) = (w && bit(1, of: entry), u && bit(2, of: entry), x && !bit(63, of: entry))
    if isLeaf {
      let rights = rights(w: w, u: u, x: x)
      let lower: Character = access.isWrite ? "w" : access.isExecute ? "x" : "r"
      let needed = access.isPrivileged ? Character(lower.uppercased()) : lower
      guard rights.contains(needed) else {
        throw ReferenceFault("denied \(level) \(String(rights.sorted()))")
      }
      let marked = try mark(entry, place, level, dirty: access.isWrite)
      return ReferencePage(
        physical: bits(51, low, of: entry) + bits(low - 1, 0, of: address), sizeShift: low,
        rights: keepsFlags && !bit(6, of: marked) ? rights.subtracting("wW") : rights)
    }
    _ = try mark(entry, place, level, dirty: false)
    return try step(
      address, table: bits(51, 12, of: entry), level: level - 1, access: access, w: w, u: u, x: x)
  }

  private func rights(w: Bool, u: Bool, x: Bool) -> Set<Character> {
    let x = x || !executeDisable
    var rights: Set<Character> = ["R"]
    if w || !writeProtect { rights.insert("W") }
    if x && !(u && executeProtect) { rights.insert("X") }
    if u { rights.insert("r") }
    if u && w { rights.insert("w") }
    if u && x { rights.insert("x") }
    return rights
  }

  private func mark(
    _ entry: UInt64, _ place: UInt64, _ level: Int, dirty: Bool
  ) throws -> UInt64 {
    guard keepsFlags else { return entry }
    var marked = entry | 1 << 5
    if keepsExtended { marked |= 1 << 10 }
    if dirty { marked |= 1 << 6 }
    if marked != entry { try stage.write(marked, place, level) }
    return marked
  }
}

// SPDX-License-Identifier: Apache-2.0

// The second stages of VT-d and AMD-Vi: VT-d §3.7, §9.8; AMD 48882 §2.2.3.

struct ReferenceVTdSecondStage {
  var levels = 4
  var addressBits = 46
  var keepsFlags = false
  let memory: ReferenceMemory

  func translate(
    _ address: UInt64, root: UInt64, access: ReferenceAccess
  ) throws -> ReferencePage {
    guard bits(63, 12 + 9 * levels, of: address) == 0 else { throw ReferenceFault("beyond") }
    return try step(
      address, table: root, level: levels - 1, access: access, r: true, w: true)
  }

  private func step(
    _ address: UInt64, table: UInt64, level: Int, access: ReferenceAccess, r: Bool, w: Bool
  ) throws -> ReferencePage {
    let low = 12 + 9 * level
    let place = table + bits(low + 8, low, of: address) >> UInt64(low) * 8
    let entry = try memory.read(place, level)
    guard bit(0, of: entry) || bit(1, of: entry) else { throw ReferenceFault("absent", level) }
    let isLeaf = level == 0 || (bit(7, of: entry) && level <= 2)
    var reserved = bits(51, addressBits, of: entry) | bits(62, 62, of: entry)
    if !isLeaf { reserved |= bits(11, 11, of: entry) | bits(7, 7, of: entry) }
    if isLeaf { reserved |= bits(low - 1, 12, of: entry) }
    guard reserved == 0 else { throw ReferenceFault("reserved", level) }
    let (r, w) = (r && bit(0, of: entry), w && bit(1, of: entry))
    var marked = entry
    if keepsFlags { marked |= 1 << 8 }
    if isLeaf {
      var rights: Set<Character> = []
      // The permissions apply to all requests, and R also allows execution.
      if r { rights.formUnion("rRxX") }
      if w { rights.formUnion("wW") }
      guard access.isWrite ? w : r else {
        throw ReferenceFault("denied \(level) \(String(rights.intersection("rw").sorted()))")
      }
      if keepsFlags && access.isWrite { marked |= 1 << 9 }
      try memory.write(marked, place, level)
      if keepsFlags && !bit(9, of: marked) { rights.subtract("wW") }
      return ReferencePage(
        physical: bits(51, low, of: entry) + bits(low - 1, 0, of: address), sizeShift: low,
        rights: rights)
    }
    try memory.write(marked, place, level)
    return try step(
      address, table: bits(51, 12, of: entry), level: level - 1, access: access, r: r, w: w)
  }
}

/// AMD-Vi host tables, with levels 1 to 6 as in the specification.
struct ReferenceAMDv1 {
  var mode = 4
  var addressBits = 46
  var keepsFlags = false
  let memory: ReferenceMemory

  func translate(
    _ address: UInt64, root: UInt64, access: ReferenceAccess
  ) throws -> ReferencePage {
    if mode < 6, bits(63, 12 + 9 * mode, of: address) != 0 { throw ReferenceFault("beyond") }
    return try step(address, table: root, level: mode, access: access, r: true, w: true)
  }

  private func step(
    _ address: UInt64, table: UInt64, level: Int, access: ReferenceAccess, r: Bool, w: Bool
  ) throws -> ReferencePage {
    let low = 12 + 9 * (level - 1)
    let place = table + bits(min(63, low + 8), low, of: address) >> UInt64(low) * 8
    let entry = try memory.read(place, level - 1)
    guard bit(0, of: entry) else { throw ReferenceFault("absent", level - 1) }
    let next = Int(bits(11, 9, of: entry) >> 9)
    let (r, w) = (r && bit(61, of: entry), w && bit(62, of: entry))
    let reserved = bits(51, addressBits, of: entry) | bits(58, 52, of: entry)
    var marked = entry
    if keepsFlags { marked |= 1 << 5 }

    guard next == 0 || next == 7 || level == 1 else {
      // The address bits of the levels that the entry skips.
      let skipped = next < level - 1 ? bits(low - 1, 12 + 9 * next, of: address) : 0
      guard next < level, skipped == 0, reserved | bits(60, 52, of: entry) == 0 else {
        throw ReferenceFault("reserved", level - 1)
      }
      try memory.write(marked, place, level - 1)
      return try step(
        address, table: bits(51, 12, of: entry), level: next, access: access, r: r, w: w)
    }

    var size = low
    if next == 7 {
      // The lowest zero bit of the address encodes the page size.
      size = 12
      while size < 64 && bit(size, of: entry) { size += 1 }
      size += 1
    }
    guard level < 6, next == 0 || next == 7, size >= low, size < low + 9, size < 52, reserved == 0
    else { throw ReferenceFault("reserved", level - 1) }
    var rights: Set<Character> = []
    if r { rights.formUnion("rRxX") }
    if w { rights.formUnion("wW") }
    guard access.isWrite ? w : r else {
      throw ReferenceFault("denied \(level - 1) \(String(rights.intersection("rw").sorted()))")
    }
    if keepsFlags && access.isWrite { marked |= 1 << 6 }
    try memory.write(marked, place, level - 1)
    if keepsFlags && !bit(6, of: marked) { rights.subtract("wW") }
    return ReferencePage(
      physical: bits(51, size, of: entry) + bits(size - 1, 0, of: address), sizeShift: size,
      rights: rights)
  }
}

// SPDX-License-Identifier: Apache-2.0

// DDI 0487 D8.2 to D8.5 after the pseudocode (AArch64.S1Walk, AArch64.S2Walk and the functions that
// they call), with Arm's level numbers. Faults have the walker's level numbers: 3 minus Arm's.

struct ReferenceVMSAv8 {
  var isStage2 = false
  /// 12, 14 or 16.
  var granule = 12
  var inputSize = 16
  /// The start level of stage 2. Stage 1 computes its own.
  var startLevel = 0
  var outputBits = 48
  var wide = false
  var ha = false
  var hd = false
  var affd = false
  var hpd = false
  var wxn = false
  var onePrivilege = false
  let stage: any ReferenceStage

  private var stride: Int { granule - 3 }
  var inputBits: Int { 64 - inputSize }

  /// The start level of stage 1: the lowest from which all input bits can be resolved.
  var firstLevel: Int {
    guard !isStage2 else { return startLevel }
    var level = 3
    while inputBits > low(level) + stride { level -= 1 }
    return level
  }

  /// Whether the start level of stage 2 fits the input size (AArch64.S2InconsistentSL).
  var isConsistent: Bool {
    let minimum = low(startLevel) + 1
    return inputBits >= minimum && inputBits <= minimum + stride - 1 + 4
  }

  private func low(_ level: Int) -> Int { granule + (3 - level) * stride }

  func translate(
    _ address: UInt64, root: UInt64, access: ReferenceAccess
  ) throws -> ReferencePage {
    guard bits(63, inputBits, of: address) == 0 else { throw ReferenceFault("beyond") }
    let first = firstLevel
    // Bits of TTBR below the table's own alignment are RES0.
    let entries = inputBits - low(first)
    return try step(
      address, table: bits(63, max(6, entries + 3), of: root), level: first, isTop: true,
      access: access, tables: [])
  }

  private func output(_ entry: UInt64, _ low: Int) -> UInt64 {
    if !wide { return bits(47, low, of: entry) }
    if granule == 16 { return bits(47, low, of: entry) + bits(15, 12, of: entry) << 36 }
    return bits(49, low, of: entry) + bits(9, 8, of: entry) << 42
  }

  private func hasBlocks(_ level: Int) -> Bool {
    switch (granule, level) {
    case (12, 1), (12, 2), (14, 2), (16, 2): true
    case (12, 0), (14, 1), (16, 1): wide
    default: false
    }
  }

  private func run(_ level: Int) -> Int {
    switch (granule, level) {
    case (12, 1), (12, 2), (12, 3): 16
    case (14, 2): 32
    case (14, 3): 128
    case (16, 2), (16, 3): 32
    default: 1
    }
  }

  private func step(
    _ address: UInt64, table: UInt64, level: Int, isTop: Bool, access: ReferenceAccess,
    tables: [UInt64]
  ) throws -> ReferencePage {
    let ours = 3 - level
    let low = low(level)
    let high = isTop ? 63 : low + stride - 1
    let place = table + bits(high, low, of: address) >> UInt64(low) * 8
    let entry = try stage.read(place, ours)
    let isTable = bit(1, of: entry) && level < 3
    let isValid = bit(0, of: entry) && (bit(1, of: entry) || hasBlocks(level))
    guard isValid else { throw ReferenceFault("absent", ours) }

    let outputLow = isTable ? granule : low
    guard bits(63, outputBits, of: output(entry, outputLow)) == 0 else {
      throw ReferenceFault("too wide", ours)
    }
    if isTable {
      return try step(
        address, table: output(entry, outputLow), level: level + 1, isTop: false,
        access: access, tables: tables + [entry])
    }
    guard bit(10, of: entry) || ha || affd else { throw ReferenceFault("unused", ours) }
    let rights = isStage2 ? rights2(entry) : rights1(entry, tables)
    let lower: Character = access.isWrite ? "w" : access.isExecute ? "x" : "r"
    let needed = access.isPrivileged ? Character(lower.uppercased()) : lower
    guard rights.contains(needed) else {
      throw ReferenceFault("denied \(ours) \(String(rights.sorted()))")
    }
    var marked = entry
    if ha { marked |= 1 << 10 }
    let keepsDirty = hd && bit(51, of: entry)
    if keepsDirty && access.isWrite {
      if isStage2 { marked |= 1 << 7 } else { marked &= ~(1 << 7) }
    }
    if marked != entry { try stage.write(marked, place, ours) }
    let isClean = keepsDirty && bit(7, of: marked) != isStage2

    // The contiguous hint applies only to a descriptor in the right place.
    let runSize = UInt64(run(level)) << UInt64(low)
    let base = output(entry, low)
    let isRun =
      bit(52, of: entry) && run(level) > 1
      && (base ^ address) % runSize / (1 << UInt64(low)) == 0
    return ReferencePage(
      physical: base + address % (1 << UInt64(low)),
      sizeShift: isRun ? runSize.trailingZeroBitCount : low,
      rights: isClean ? rights.subtracting("wW") : rights)
  }

  /// AArch64.S1DirectBasePermissions, the permissions of the tables (S1ApplyTablePerms), and WXN.
  private func rights1(_ entry: UInt64, _ tables: [UInt64]) -> Set<Character> {
    let tables = hpd ? [] : tables
    let writable =
      (!bit(7, of: entry) || (hd && bit(51, of: entry))) && !tables.contains { bit(62, of: $0) }
    let xn = bit(54, of: entry) || tables.contains { bit(60, of: $0) }
    if onePrivilege {
      var rights: Set<Character> = ["r", "R"]
      if writable { rights.formUnion("wW") }
      if !xn && !(wxn && writable) { rights.formUnion("xX") }
      return rights
    }
    let unprivileged = bit(6, of: entry) && !tables.contains { bit(61, of: $0) }
    let pxn = bit(53, of: entry) || tables.contains { bit(59, of: $0) }
    let (ur, uw) = (unprivileged, unprivileged && writable)
    var rights: Set<Character> = ["R"]
    if writable { rights.insert("W") }
    if !(pxn || uw) && !(wxn && writable) { rights.insert("X") }
    if ur { rights.insert("r") }
    if uw { rights.insert("w") }
    if !xn && !(wxn && uw) { rights.insert("x") }
    return rights
  }

  /// AArch64.S2DirectBasePermissions, FEAT_XNX.
  private func rights2(_ entry: UInt64) -> Set<Character> {
    var rights: Set<Character> = []
    if bit(6, of: entry) { rights.formUnion("rR") }
    if bit(7, of: entry) || (hd && bit(51, of: entry)) { rights.formUnion("wW") }
    switch bits(54, 53, of: entry) >> 53 {
    case 0: rights.formUnion("xX")
    case 1: rights.insert("x")
    case 3: rights.insert("X")
    default: break
    }
    return rights
  }
}

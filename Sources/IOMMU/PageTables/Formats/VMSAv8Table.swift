// SPDX-License-Identifier: Apache-2.0

// The page tables that the fields of a context descriptor or a stream table entry describe.
//
// The granule and the input size TxSZ determine the addresses that a table translates and the level
// at which a walk begins. For stage 2 a field gives that level, because up to 16 concatenated
// tables can replace a level (DDI 0487 D8.2.2, D8.2.8 Concatenated translation tables).

/// A VMSAv8-64 page table whose fields are valid.
struct VMSAv8Table: Hashable, Sendable, BitwiseCopyable {
  enum Granule: Hashable, Sendable, BitwiseCopyable {
    case size4K, size16K, size64K

    var shift: Int {
      switch self {
      case .size4K: 12
      case .size16K: 14
      case .size64K: 16
      }
    }
  }

  let granule: Granule
  let root: TableRoot
  /// The number of bits of input addresses.
  let inputBits: Int

  /// The highest address that the table translates.
  var lastAddress: UInt64 { 1 << UInt64(inputBits) &- 1 }

  /// Makes a table of stage 1.
  /// - Parameters:
  ///   - address: TTB.
  ///   - inputSize: TxSZ.
  ///   - outputBits: the effective output size (IPS).
  ///   - minimumSize: the smallest TxSZ of the implementation with these options: 16, or 12 with
  ///     52-bit input addresses.
  ///   - hasSmallTables: whether the implementation has small tables (TTST). The largest TxSZ is
  ///     then 48, or 47 for 64 KiB, and otherwise 39.
  /// - Returns: `nil` when TxSZ is out of range (SMMUv3: C_BAD_CD).
  init?(
    stage1 address: PhysicalAddress, granule: Granule, inputSize: Int, outputBits: Int,
    minimumSize: Int = 16, hasSmallTables: Bool = false, options: WalkOptions = []
  ) {
    let maximumSize = hasSmallTables ? (granule == .size64K ? 47 : 48) : 39
    guard inputSize >= max(12, minimumSize), inputSize <= maximumSize else { return nil }
    let bits = 64 - inputSize
    let stride = granule.shift - 3
    let levels = (bits - granule.shift + stride - 1) / stride
    self.init(
      address, granule, inputBits: bits, topLevel: levels - 1, outputBits: outputBits, options)
  }

  /// Makes a table of stage 2.
  /// - Parameters:
  ///   - address: S2TTB.
  ///   - inputSize: S2T0SZ.
  ///   - startLevel: Arm's number of the level at which the walk begins, which S2SL0 encodes.
  ///   - outputBits: the effective output size (S2PS).
  /// - Returns: `nil` when the start level and the input size do not match, or one of them is out
  ///   of range (SMMUv3: C_BAD_STE).
  init?(
    stage2 address: PhysicalAddress, granule: Granule, inputSize: Int, startLevel: Int,
    outputBits: Int, minimumSize: Int = 16, hasSmallTables: Bool = false,
    options: WalkOptions = []
  ) {
    let maximumSize = hasSmallTables ? (granule == .size64K ? 47 : 48) : 39
    let topLevel = 3 - startLevel
    guard inputSize >= max(12, minimumSize), inputSize <= maximumSize, topLevel >= 0,
      topLevel <= (granule == .size4K ? 4 : granule == .size16K ? 3 : 2)
    else { return nil }
    let bits = 64 - inputSize
    let stride = granule.shift - 3
    let topBits = bits - granule.shift - stride * topLevel
    guard topBits >= 1, topBits <= stride + 4 else { return nil }
    self.init(
      address, granule, inputBits: bits, topLevel: topLevel, outputBits: outputBits, options)
  }

  private init(
    _ address: PhysicalAddress, _ granule: Granule, inputBits: Int, topLevel: Int,
    outputBits: Int, _ options: WalkOptions
  ) {
    // The top table is aligned to its size, and at least to 64 bytes. Lower address bits are
    // ignored.
    let topBits = inputBits - granule.shift - (granule.shift - 3) * topLevel
    let size = UInt64(8) << UInt64(max(3, topBits))
    self.granule = granule
    self.inputBits = inputBits
    root = TableRoot(
      address: PhysicalAddress(address.rawValue & ~(size - 1)), topLevel: topLevel,
      updatesFlags: options.contains(.setsAccessFlag), options: options,
      forbidden: ~(1 << UInt64(min(outputBits, 52)) - 1))
  }
}

/// The two tables of a stage 1 translation regime, for the lower and the upper address range.
struct VMSAv8Regime: Hashable, Sendable, BitwiseCopyable {
  /// The table of the lower range. `nil` when its walks are disabled (EPD0).
  var lower: VMSAv8Table?
  /// The table of the upper range. `nil` when its walks are disabled (EPD1), or the regime has no
  /// upper range.
  var upper: VMSAv8Table?
  /// TBI0: the topmost byte of an address in the lower range is ignored.
  var ignoresTopByteOfLower = false
  /// TBI1: the topmost byte of an address in the upper range is ignored.
  var ignoresTopByteOfUpper = false

  /// Returns the table for an address, and the part of the address that the table translates. Bit
  /// 55 selects the range, and the bits above the input size must be copies of bit 55 (DDI 0487
  /// D8.2.1).
  /// - Returns: `nil` when the address is in neither range: a translation fault without a walk.
  @inline(__always)
  func table(for address: UInt64) -> (table: VMSAv8Table, input: UInt64)? {
    let isUpper = address & 1 << 55 != 0
    guard let table = isUpper ? upper : lower else { return nil }
    let ignoresTop = isUpper ? ignoresTopByteOfUpper : ignoresTopByteOfLower
    let counted = ignoresTop ? address & 0x00ff_ffff_ffff_ffff : address
    let copies = isUpper ? (ignoresTop ? 0x00ff_ffff_ffff_ffff : UInt64.max) : 0
    guard (counted ^ copies) & ~table.lastAddress == 0 else { return nil }
    return (table, address & table.lastAddress)
  }
}

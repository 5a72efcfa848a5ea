// From the fields of a context descriptor or stream table entry to a table that can be walked.
//
// What a table translates, and at which level its walk begins, follows from the granule and the input
// size TxSZ; a stage 2 also says the level, because up to 16 tables side by side can take the
// place of a level above (DDI 0487 D8.2.2, D8.2.8 Concatenated translation tables).

/// One VMSAv8-64 table, checked.
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
  /// Addresses have this many bits.
  let inputBits: Int

  var lastAddress: UInt64 { 1 << UInt64(inputBits) &- 1 }

  /// A table of stage 1.
  /// - Parameters:
  ///   - address: TTB.
  ///   - inputSize: TxSZ.
  ///   - outputBits: the effective output size (IPS).
  ///   - minimumSize: the least TxSZ the implementation has with these options: 16, or 12 with 52-bit
  ///     input addresses. It has 39 as the largest, or with small tables (TTST) 48, and 47 for 64 KiB.
  /// - Returns: nil when TxSZ is out of range (SMMUv3: C_BAD_CD).
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

  /// A table of stage 2.
  /// - Parameters:
  ///   - address: S2TTB.
  ///   - inputSize: S2T0SZ.
  ///   - startLevel: Arm's number of the level the walk begins at, which S2SL0 encodes.
  ///   - outputBits: the effective output size (S2PS).
  /// - Returns: nil when the start level and the input size do not go together, or one is out of
  ///   range (SMMUv3: C_BAD_STE).
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
    // The top table is aligned to its size, at least to 64 bytes; address bits below do not count.
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

/// The two tables of a stage 1 translation regime, for low and for high addresses.
struct VMSAv8Regime: Hashable, Sendable, BitwiseCopyable {
  /// Nil: walks are disabled (EPDx), or there is no such range.
  var lower: VMSAv8Table?
  var upper: VMSAv8Table?
  /// TBI0 and TBI1: the topmost byte of an address does not count.
  var ignoresTopByteOfLower = false
  var ignoresTopByteOfUpper = false

  /// The table for an address, and the part of the address that it translates. Nil: the address is in
  /// neither range, a translation fault before any walk (DDI 0487 D8.2.1: bit 55 chooses, and
  /// the bits above the input size are copies of it).
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

// SPDX-License-Identifier: Apache-2.0

// The layout of a client's configuration space: the permission tables of the header and of the
// capabilities (init_pci_cap_basic_perm() and the functions beside it), and the capability lists as
// the client sees them (vfio_cap_init(), vfio_ecap_init()).

internal import PCI

/// For each byte of configuration space, what it belongs to and which of its bits are virtual or
/// writable.
struct ConfigLayout: Sendable {
  /// What a byte belongs to.
  enum Owner: Hashable, Sendable {
    case header
    case capability(UInt8, start: Int)
    case extended(UInt16, start: Int)
    /// No known structure. All bits are physical and writable.
    case unassigned
  }

  private(set) var owner: [Owner]
  /// The virtual bits when the device is opened. Other bits have no meaning.
  private(set) var initialShadow: [UInt8]
  /// A set bit is virtual: the client reads and writes the shadow. A clear bit is physical: the
  /// client reads and writes the function.
  private(set) var virtual: [UInt8]
  /// A set bit is writable, in the shadow or in the function.
  private(set) var writable: [UInt8]
  private let function: Function

  init(_ function: Function) {
    let size = function.configSize
    self.function = function
    owner = Array(repeating: .unassigned, count: size)
    initialShadow = Array(repeating: 0, count: size)
    virtual = initialShadow
    writable = initialShadow
    layOutHeader()
    layOutCapabilities()
    layOutExtendedCapabilities()
  }

  private mutating func layOutHeader() {
    assign(0, Type0Header.size, to: .header)
    define(Type0Header.vendorID, virtual: UInt32.max)
    // VFIO masks INTx with the function's Interrupt Disable bit, so the client's bit is virtual.
    define(
      Type0Header.command, virtual: CommandRegister.interruptDisable.rawValue, writable: .max)
    define(Type0Header.status, virtual: StatusRegister.capabilitiesList.rawValue)
    define(Type0Header.cacheLineSize, virtual: UInt8(0), writable: .max)
    define(Type0Header.latencyTimer, virtual: UInt8(0), writable: .max)
    define(Type0Header.builtInSelfTest, virtual: UInt8(0), writable: .max)
    for index in 0..<6 {
      define(Type0Header.bar0 + index * 4, virtual: UInt32.max, writable: .max)
    }
    define(Type0Header.expansionROM, virtual: UInt32.max, writable: .max)
    define(Type0Header.capabilitiesPointer, virtual: UInt8.max)
    define(Type0Header.interruptLine, virtual: UInt8.max, writable: .max)
    define(Type0Header.interruptPin, virtual: UInt8.max)
  }

  private mutating func layOutCapabilities() {
    for placed in function.description.capabilities {
      let start = placed.offset
      assign(start, placed.kind.length, to: .capability(placed.kind.id, start: start))
      switch placed.kind {
      case .powerManagement: definePowerManagement(start)
      case .express: defineExpress(start)
      case .msi(_, let is64Bit, let perVectorMasking): defineMSI(start, is64Bit, perVectorMasking)
      // The ID and the next pointer are virtual. The client reads the function's other registers.
      case .msix: define(start, virtual: UInt16.max)
      }
    }
  }

  private mutating func definePowerManagement(_ start: Int) {
    define(start + 1, virtual: UInt8.max)
    // Power management events belong to the host. The client sees neither support nor status.
    define(start + PowerManagement.capabilities, virtual: PowerManagement.eventSupport)
    let events = PowerManagement.eventEnable | PowerManagement.eventStatus
    define(
      start + PowerManagement.control, virtual: UInt32(events),
      writable: ~UInt32(events | PowerManagement.powerStateMask))
    initialShadow[start + PowerManagement.capabilities + 1] &= 0x07
    initialShadow[start + PowerManagement.control + 1] &= 0x7e
  }

  private mutating func defineExpress(_ start: Int) {
    define(start + 1, virtual: UInt8.max)
    // The maximum payload size must suit every port on the path, which only the host knows.
    define(
      start + Express.deviceControl,
      virtual: Express.initiateFunctionLevelReset | Express.maximumPayload
        | Express.maximumReadRequest,
      writable: ~Express.phantomFunctions)
    define(
      start + Express.deviceControl2, virtual: UInt16(0), writable: ~Express.alternativeRoutingID2)
  }

  private mutating func defineMSI(_ start: Int, _ is64Bit: Bool, _ perVectorMasking: Bool) {
    define(start + 1, virtual: UInt8.max)
    define(start + MSI.control, virtual: UInt8.max, writable: .max)
    define(start + MSI.address, virtual: UInt32.max, writable: .max)
    if is64Bit { define(start + MSI.address + 4, virtual: UInt32.max, writable: .max) }
    let data = start + MSI.address + (is64Bit ? 8 : 4)
    define(data, virtual: UInt16.max, writable: .max)
    if perVectorMasking {
      define(data + 4, virtual: UInt32(0), writable: .max)
      define(data + 8, virtual: UInt32(0), writable: .max)
    }
  }

  /// Takes the capabilities that the kernel does not virtualise out of the list. The first
  /// capability cannot be taken out, so its ID becomes 0.
  private mutating func layOutExtendedCapabilities() {
    guard function.description.isExpress else { return }
    var previous: Int?
    var visible = 0
    for placed in function.description.extendedCapabilities {
      let start = placed.offset
      let header = function.readConfig(at: start, count: 4)
      if placed.kind.visibleLength == nil, let previous {
        let shadow = initialShadow.loadLittleEndian(at: previous, count: 4)
        initialShadow.storeLittleEndian(
          shadow & ~Self.nextMask | header & Self.nextMask, at: previous)
        continue
      }
      assign(start, placed.kind.visibleLength ?? 4, to: .extended(placed.kind.id, start: start))
      define(start, virtual: UInt32.max)
      if placed.kind.visibleLength == nil {
        initialShadow.storeLittleEndian(header & Self.nextMask, at: start)
      } else {
        visible += 1
      }
      previous = start
    }
    if previous != nil, visible == 0 {
      initialShadow.storeLittleEndian(0, at: ConfigSize.conventional)
    }
  }

  /// Next Capability Offset in an extended capability's header.
  private static let nextMask: UInt32 = 0xffc0_0000

  /// Assigns bytes to an owner and copies the function's bytes to the shadow.
  private mutating func assign(_ start: Int, _ length: Int, to new: Owner) {
    for position in start..<start + length {
      owner[position] = new
      initialShadow[position] = UInt8(
        truncatingIfNeeded: function.readConfig(at: position, count: 1))
    }
  }

  private mutating func define<Register: FixedWidthInteger>(
    _ position: Int, virtual virtualBits: Register, writable writableBits: Register = 0
  ) {
    for index in 0..<(Register.bitWidth / 8) {
      virtual[position + index] = UInt8(truncatingIfNeeded: virtualBits >> (index * 8))
      writable[position + index] = UInt8(truncatingIfNeeded: writableBits >> (index * 8))
    }
  }
}

extension Capability {
  /// Bytes of the capability (pci_cap_length, vfio_cap_len()).
  fileprivate var length: Int {
    switch self {
    case .powerManagement: PowerManagement.size
    case .express(_, rootComplexIntegrated: true): 0x2c
    case .express: Express.size
    case .msi(_, let is64Bit, let perVectorMasking):
      10 + (is64Bit ? 4 : 0) + (perVectorMasking ? 10 : 0)
    case .msix: MSIX.size
    }
  }
}

extension ExtendedCapability {
  /// Bytes of the capability (pci_ext_cap_length). `nil` for a capability that the client does not
  /// see.
  fileprivate var visibleLength: Int? {
    switch self {
    case .ats: 8
    case .pageRequest: 16
    case .pasid: nil
    }
  }
}

extension [UInt8] {
  /// Returns the 1 to 4 bytes at `position` as a little-endian number.
  func loadLittleEndian(at position: Int, count: Int) -> UInt32 {
    var value: UInt32 = 0
    for index in 0..<count { value |= UInt32(self[position + index]) << (index * 8) }
    return value
  }

  /// Stores the 4 bytes of `value` at `position` in little-endian order.
  mutating func storeLittleEndian(_ value: UInt32, at position: Int) {
    for index in 0..<4 { self[position + index] = UInt8(truncatingIfNeeded: value >> (index * 8)) }
  }
}

extension Function {
  /// Reads 1, 2 or 4 bytes of the function's configuration space.
  func readConfig(at position: Int, count: Int) -> UInt32 {
    switch count {
    case 1: UInt32(readConfig(position, as: UInt8.self))
    case 2: UInt32(readConfig(position, as: UInt16.self))
    default: readConfig(position, as: UInt32.self)
    }
  }

  /// Writes 1, 2 or 4 bytes of the function's configuration space.
  func writeConfig(_ value: UInt32, at position: Int, count: Int) {
    switch count {
    case 1: writeConfig(position, UInt8(truncatingIfNeeded: value))
    case 2: writeConfig(position, UInt16(truncatingIfNeeded: value))
    default: writeConfig(position, value)
    }
  }
}

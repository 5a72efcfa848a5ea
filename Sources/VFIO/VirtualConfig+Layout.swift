// Which bits are whose: the permission tables of the header and the capabilities
// (init_pci_cap_basic_perm() and its neighbours), and the capability lists as the client sees them
// (vfio_cap_init(), vfio_ecap_init()).

internal import PCI

extension VirtualConfig {
  mutating func layOutHeader() {
    claim(0, Header.size, .header)
    allow(Header.vendorID, virtual: UInt32.max)
    // The interrupt disable bit is the host's, for masking.
    allow(
      Header.command, virtual: Command.interruptDisable.rawValue, writable: .max)
    allow(Header.status, virtual: Status.capabilitiesList.rawValue)
    allow(Header.cacheLineSize, virtual: UInt8(0), writable: .max)
    allow(Header.latencyTimer, virtual: UInt8(0), writable: .max)
    allow(Header.builtInSelfTest, virtual: UInt8(0), writable: .max)
    for index in 0..<6 {
      allow(Header.baseAddress0 + index * 4, virtual: UInt32.max, writable: .max)
    }
    allow(Header.expansionROM, virtual: UInt32.max, writable: .max)
    allow(Header.capabilitiesPointer, virtual: UInt8.max)
    allow(Header.interruptLine, virtual: UInt8.max, writable: .max)
    allow(Header.interruptPin, virtual: UInt8.max)
  }

  mutating func layOutCapabilities() {
    for placed in function.description.capabilities {
      let start = placed.offset
      claim(start, placed.kind.length, .capability(placed.kind.id, start: start))
      switch placed.kind {
      case .powerManagement: allowPowerManagement(start)
      case .express: allowExpress(start)
      case .msi(_, let is64Bit, let masking): allowMSI(start, is64Bit, masking)
      case .msix: allow(start, virtual: UInt16.max)  // read directly but for the list
      }
    }
  }

  private mutating func allowPowerManagement(_ start: Int) {
    allow(start + 1, virtual: UInt8.max)
    // Wake-up events are the host's: not offered, and the status is not shown.
    allow(start + PowerManagement.capabilities, virtual: PowerManagement.eventSupport)
    let events = PowerManagement.eventEnable | PowerManagement.eventStatus
    allow(
      start + PowerManagement.control, virtual: UInt32(events),
      writable: ~UInt32(events | PowerManagement.powerStateMask))
    shadow[start + PowerManagement.capabilities + 1] &= 0x07
    shadow[start + PowerManagement.control + 1] &= 0x7e
  }

  private mutating func allowExpress(_ start: Int) {
    allow(start + 1, virtual: UInt8.max)
    // The payload size must suit the whole path, which only the host knows.
    allow(
      start + Express.deviceControl,
      virtual: Express.initiateFunctionLevelReset | Express.maximumPayload
        | Express.maximumReadRequest,
      writable: ~Express.phantomFunctions)
    allow(
      start + Express.deviceControl2, virtual: UInt16(0), writable: ~Express.alternativeRoutingID2)
  }

  private mutating func allowMSI(_ start: Int, _ is64Bit: Bool, _ masking: Bool) {
    allow(start + 1, virtual: UInt8.max)
    allow(start + MSI.control, virtual: UInt8.max, writable: .max)
    allow(start + MSI.address, virtual: UInt32.max, writable: .max)
    if is64Bit { allow(start + MSI.address + 4, virtual: UInt32.max, writable: .max) }
    let data = start + MSI.address + (is64Bit ? 8 : 4)
    allow(data, virtual: UInt16.max, writable: .max)
    if masking {
      allow(data + 4, virtual: UInt32(0), writable: .max)
      allow(data + 8, virtual: UInt32(0), writable: .max)
    }
  }

  /// Capabilities that the kernel does not virtualise are taken out of the list; the first cannot be,
  /// so it loses its id.
  mutating func layOutExtendedCapabilities() {
    guard function.description.isExpress else { return }
    var previous: Int?
    var visible = 0
    for placed in function.description.extendedCapabilities {
      let start = placed.offset
      let header = physical(at: start, count: 4)
      if placed.kind.visibleLength == nil, let previous {
        setShadow(previous, shadowValue(previous) & ~Self.nextMask | header & Self.nextMask)
        continue
      }
      claim(start, placed.kind.visibleLength ?? 4, .extended(placed.kind.id, start: start))
      allow(start, virtual: UInt32.max)
      if placed.kind.visibleLength == nil {
        setShadow(start, header & Self.nextMask)
      } else {
        visible += 1
      }
      previous = start
    }
    if previous != nil, visible == 0 { setShadow(ConfigSize.conventional, 0) }
  }

  /// Next Capability Offset in an extended capability's header.
  private static let nextMask: UInt32 = 0xffc0_0000

  /// Gives bytes to an owner and copies what the function has there.
  private mutating func claim(_ start: Int, _ length: Int, _ new: Owner) {
    for position in start..<start + length {
      owner[position] = new
      shadow[position] = UInt8(truncatingIfNeeded: physical(at: position, count: 1))
    }
  }

  private mutating func allow<Register: FixedWidthInteger>(
    _ position: Int, virtual virtualBits: Register, writable writableBits: Register = 0
  ) {
    for index in 0..<(Register.bitWidth / 8) {
      virtual[position + index] = UInt8(truncatingIfNeeded: virtualBits >> (index * 8))
      writable[position + index] = UInt8(truncatingIfNeeded: writableBits >> (index * 8))
    }
  }
}

extension Capability {
  /// Bytes that belong to it (pci_cap_length, vfio_cap_len()).
  fileprivate var length: Int {
    switch self {
    case .powerManagement: PowerManagement.size
    case .express(_, rootComplexIntegrated: true): 0x2c
    case .express: Express.size
    case .msi(_, let is64Bit, let masking): 10 + (is64Bit ? 4 : 0) + (masking ? 10 : 0)
    case .msix: MSIX.size
    }
  }
}

extension ExtendedCapability {
  /// Bytes that belong to it (pci_ext_cap_length); nil: hidden.
  fileprivate var visibleLength: Int? {
    switch self {
    case .ats: 8
    case .pageRequest: 16
    case .pasid: nil
    }
  }
}

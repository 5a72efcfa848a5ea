// SPDX-License-Identifier: Apache-2.0

/// The reason why a request was blocked, in the terms of the event that reports it (§2.5 Event
/// Logging).
package struct AMDViEvent: Hashable, Error {
  package enum Kind: UInt8, Sendable {
    /// ILLEGAL_DEV_TABLE_ENTRY
    case illegalDeviceTableEntry = 1
    /// IO_PAGE_FAULT
    case pageFault = 2
    /// DEV_TAB_HARDWARE_ERROR
    case deviceTableError = 3
    /// PAGE_TAB_HARDWARE_ERROR
    case pageTableError = 4
    /// INVALID_DEVICE_REQUEST
    case invalidRequest = 8
    /// INVALID_PPR_REQUEST
    case invalidPageRequest = 9
  }

  /// Type of an INVALID_DEVICE_REQUEST (§2.5.9), with TR, which marks a translation request, in bit
  /// 3.
  package enum InvalidRequest: UInt8, Sendable {
    /// A read request in the interrupt address range.
    case readOfInterrupts = 0
    /// A translated request, and I is clear.
    case translated = 1
    /// A request to the port I/O range, and IoCtl is 0.
    case portIO = 2
    /// A write to the system management range, and SysMgt is 0.
    case systemManagement = 4
    /// A write to the reserved part of the interrupt address range.
    case reservedInterrupt = 6
    /// A translation request, and I is clear.
    case translationRequest = 8
  }

  /// The address space of the address in the event.
  package enum AddressSpace: Hashable, Sendable {
    /// GN clear: the host table of a domain.
    case domain(DomainID)
    /// GN set: the guest table of a PASID.
    case pasid(PASID)
  }

  package let kind: Kind
  package var addressSpace = AddressSpace.domain(DomainID(rawValue: 0))
  /// The address field, as the kind of event defines it.
  package var address: UInt64
  /// PR: the entry that ended the walk was present.
  package var isPresent = false
  /// PE: the page or the device table entry does not allow the access.
  package var isDenied = false
  /// RZ: a reserved bit was set. If RZ is clear in an invalid present entry, its level or its page
  /// size is invalid.
  package var isReserved = false
  /// Type: that of a hardware error, or an ``InvalidRequest``.
  package var type: UInt8 = 0
  /// The group index of a page request. Bit 9 marks the last request of the group.
  package var tag: UInt16 = 0

  private init(_ kind: Kind, at address: UInt64) {
    self.kind = kind
    self.address = address
  }

  /// - Parameter isReserved: whether a reserved bit is the reason, and not a number of levels.
  static func illegalEntry(at address: UInt64, isReserved: Bool) -> Self {
    var event = Self(.illegalDeviceTableEntry, at: address & ~3)
    event.isReserved = isReserved
    return event
  }

  /// The address has no translation.
  static func absent(_ space: AddressSpace, at address: UInt64) -> Self {
    var event = Self(.pageFault, at: address)
    event.addressSpace = space
    return event
  }

  /// The page does not allow the access.
  static func denied(_ space: AddressSpace, at address: UInt64) -> Self {
    var event = absent(space, at: address)
    event.isPresent = true
    event.isDenied = true
    return event
  }

  /// An entry has a reserved bit set.
  static func reserved(_ space: AddressSpace, at address: UInt64) -> Self {
    var event = absent(space, at: address)
    event.isPresent = true
    event.isReserved = true
    return event
  }

  /// An entry has an invalid level or page size.
  static func illegalLevel(_ space: AddressSpace, at address: UInt64) -> Self {
    var event = absent(space, at: address)
    event.isPresent = true
    return event
  }

  /// Type of a hardware error: nothing responded at the address.
  private static let masterAbort: UInt8 = 1

  static func deviceTableError(at address: PhysicalAddress) -> Self {
    var event = Self(.deviceTableError, at: address.rawValue & ~0xf)
    event.type = masterAbort
    return event
  }

  /// - Parameter address: the address of the entry that cannot be read or updated.
  static func pageTableError(_ space: AddressSpace, at address: PhysicalAddress) -> Self {
    var event = Self(.pageTableError, at: address.rawValue & ~0xf)
    event.addressSpace = space
    event.type = masterAbort
    return event
  }

  /// The device table entry does not allow page requests.
  static func invalidPageRequest(_ request: PageRequest) -> Self {
    var event = Self(.invalidPageRequest, at: request.address.rawValue & ~0xfff)
    event.tag = UInt16(truncatingIfNeeded: request.group) | (request.isLast ? 1 << 9 : 0)
    return event
  }

  static func invalidRequest(_ type: InvalidRequest, at address: UInt64) -> Self {
    var event = Self(.invalidRequest, at: address)
    event.type = type.rawValue
    return event
  }
}

/// §2.5: an event log entry, 128 bits.
package struct AMDViEventEntry: Hashable, Sendable {
  package var words: InlineArray<2, UInt64>

  package init(_ record: FaultRecord, _ event: AMDViEvent) {
    words = .init(repeating: 0)
    words[15, 0] = UInt64(record.requester.rawValue)
    words[63, 60] = UInt64(event.kind.rawValue)
    words[1] = event.address
    setAddressSpace(record, event)
    // TR
    words[bit: 56] = record.addressType == .translationRequest
    let writes = !record.access.isDisjoint(with: .anyWrite)
    switch event.kind {
    case .illegalDeviceTableEntry:
      words[bit: 53] = writes
      words[bit: 55] = event.isReserved
    case .pageFault:
      // RW, PR, PE and RZ; NX and US apply to guest tables only.
      words[bit: 53] = writes
      words[bit: 52] = event.isPresent
      words[bit: 54] = event.isDenied
      words[bit: 55] = event.isReserved
      if case .pasid = event.addressSpace { setGuestAccess(record.access) }
    case .deviceTableError, .pageTableError:
      words[bit: 53] = writes
      words[58, 57] = UInt64(event.type)
    case .invalidRequest:
      words[59, 57] = UInt64(event.type)
      if event.type & 8 != 0 { words[bit: 56] = true }
    case .invalidPageRequest:
      // PASID [15:0] in [31:16], tag in [41:32], PASID [19:16] in [45:42], GN in [57]. RX, [48], is
      // clear: the unit does not respond to the request.
      words[41, 32] = UInt64(event.tag)
      if let pasid = record.pasid {
        words[31, 16] = UInt64(pasid.rawValue)
        words[45, 42] = UInt64(pasid.rawValue) >> 16
        words[bit: 57] = true
      }
    }
  }

  /// DomainID or PASID [15:0] in [47:32], PASID [19:16] in [19:16], and GN in [48].
  private mutating func setAddressSpace(_ record: FaultRecord, _ event: AMDViEvent) {
    switch (event.kind, event.addressSpace) {
    case (.deviceTableError, _), (.invalidPageRequest, _):
      break
    case (.pageFault, .domain(let domain)), (.pageTableError, .domain(let domain)):
      words[47, 32] = UInt64(domain.rawValue)
    case (.pageFault, .pasid(let pasid)), (.pageTableError, .pasid(let pasid)):
      set(pasid)
    case (.illegalDeviceTableEntry, _), (.invalidRequest, _):
      if let pasid = record.pasid { set(pasid) }
    }
  }

  private mutating func set(_ pasid: PASID) {
    words[47, 32] = UInt64(pasid.rawValue)
    words[19, 16] = UInt64(pasid.rawValue) >> 16
    words[bit: 48] = true
  }

  /// NX, [49]: the request was to execute. US, [50]: the request was unprivileged.
  private mutating func setGuestAccess(_ access: Permissions) {
    words[bit: 49] = !access.isDisjoint(with: [.execute, .privilegedExecute])
    words[bit: 50] = !access.isDisjoint(with: [.read, .write, .execute])
  }

  package static func == (a: Self, b: Self) -> Bool { a.words.equals(b.words) }

  package func hash(into hasher: inout Hasher) {
    hasher.combine(words[0])
    hasher.combine(words[1])
  }
}

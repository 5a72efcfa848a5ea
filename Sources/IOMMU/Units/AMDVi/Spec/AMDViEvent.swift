/// §2.5 Event Logging: why a request was blocked, in the words of the event that tells of it.
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

  /// §2.5.9: Type of an INVALID_DEVICE_REQUEST, and, in bit 3, TR: it is a translation request.
  package enum InvalidRequest: UInt8, Sendable {
    /// A read request in the interrupt address range.
    case readOfInterrupts = 0
    /// A translated request, I being clear.
    case translated = 1
    /// A request to the port I/O range, IoCtl being 0.
    case portIO = 2
    /// A write to the system management range, SysMgt being 0.
    case systemManagement = 4
    /// A write to the reserved part of the interrupt address range.
    case reservedInterrupt = 6
    /// A translation request, I being clear.
    case translationRequest = 8
  }

  /// Whose address it is about.
  package enum Subject: Hashable, Sendable {
    /// GN clear: the domain's, and it is an address of the host's table.
    case domain(DomainID)
    /// GN set: a PASID's.
    case pasid(PASID)
  }

  package let kind: Kind
  package var subject = Subject.domain(DomainID(rawValue: 0))
  /// Where, as the kind of event defines it.
  package var address: UInt64
  /// PR: what stopped the walk was present.
  package var isPresent = false
  /// PE: the page, or the device table entry, does not allow the access.
  package var isDenied = false
  /// RZ: a reserved bit was set. Without it what is present but wrong is a level or a size.
  package var isReserved = false
  /// Type: of hardware errors, or ``InvalidRequest``.
  package var type: UInt8 = 0
  /// Of a page request: its group, and in bit 9 that it is the last one of it.
  package var tag: UInt16 = 0

  private init(_ kind: Kind, at address: UInt64) {
    self.kind = kind
    self.address = address
  }

  /// - Parameter isReserved: by a reserved bit, and not by a number of levels.
  static func illegalEntry(at address: UInt64, isReserved: Bool) -> Self {
    var event = Self(.illegalDeviceTableEntry, at: address & ~3)
    event.isReserved = isReserved
    return event
  }

  /// Nothing translates the address.
  static func absent(_ subject: Subject, at address: UInt64) -> Self {
    var event = Self(.pageFault, at: address)
    event.subject = subject
    return event
  }

  static func denied(_ subject: Subject, at address: UInt64) -> Self {
    var event = absent(subject, at: address)
    event.isPresent = true
    event.isDenied = true
    return event
  }

  static func reserved(_ subject: Subject, at address: UInt64) -> Self {
    var event = absent(subject, at: address)
    event.isPresent = true
    event.isReserved = true
    return event
  }

  static func illegalLevel(_ subject: Subject, at address: UInt64) -> Self {
    var event = absent(subject, at: address)
    event.isPresent = true
    return event
  }

  /// Type of a hardware error: nobody answered at the address.
  private static let masterAbort: UInt8 = 1

  static func deviceTableError(at place: PhysicalAddress) -> Self {
    var event = Self(.deviceTableError, at: place.rawValue & ~0xf)
    event.type = masterAbort
    return event
  }

  /// - Parameter place: of the entry that cannot be read or marked.
  static func pageTableError(_ subject: Subject, at place: PhysicalAddress) -> Self {
    var event = Self(.pageTableError, at: place.rawValue & ~0xf)
    event.subject = subject
    event.type = masterAbort
    return event
  }

  /// The device table entry does not allow page requests.
  static func invalidPageRequest(_ request: PageRequest) -> Self {
    var event = Self(.invalidPageRequest, at: request.address & ~0xfff)
    event.tag = UInt16(truncatingIfNeeded: request.group) | (request.isLast ? 1 << 9 : 0)
    return event
  }

  static func invalidRequest(_ type: InvalidRequest, at address: UInt64) -> Self {
    var event = Self(.invalidRequest, at: address)
    event.type = type.rawValue
    return event
  }
}

/// §2.5, an event log entry: 128 bits.
package struct AMDViEventEntry: Hashable, Sendable {
  package var words: InlineArray<2, UInt64>

  package init(_ record: FaultRecord, _ event: AMDViEvent) {
    words = .init(repeating: 0)
    words[15, 0] = UInt64(record.requester.rawValue)
    words[63, 60] = UInt64(event.kind.rawValue)
    words[1] = event.address
    setSubject(record, event)
    // TR
    words[bit: 56] = record.addressType == .translationRequest
    let writes = !record.access.isDisjoint(with: .anyWrite)
    switch event.kind {
    case .illegalDeviceTableEntry:
      words[bit: 53] = writes
      words[bit: 55] = event.isReserved
    case .pageFault:
      // RW, PR, PE and RZ; NX and US belong to guest tables.
      words[bit: 53] = writes
      words[bit: 52] = event.isPresent
      words[bit: 54] = event.isDenied
      words[bit: 55] = event.isReserved
      if case .pasid = event.subject { setGuestAccess(record.access) }
    case .deviceTableError, .pageTableError:
      words[bit: 53] = writes
      words[58, 57] = UInt64(event.type)
    case .invalidRequest:
      words[59, 57] = UInt64(event.type)
      if event.type & 8 != 0 { words[bit: 56] = true }
    case .invalidPageRequest:
      // PASID [15:0], [31:16], tag, [41:32], PASID [19:16], [45:42], RX, [48], clear: it is not
      // answered by the unit; GN, [57].
      words[41, 32] = UInt64(event.tag)
      if let pasid = record.pasid {
        words[31, 16] = UInt64(pasid.rawValue)
        words[45, 42] = UInt64(pasid.rawValue) >> 16
        words[bit: 57] = true
      }
    }
  }

  /// DomainID or PASID [15:0], [47:32], PASID [19:16], [19:16], and GN, [48].
  private mutating func setSubject(_ record: FaultRecord, _ event: AMDViEvent) {
    switch (event.kind, event.subject) {
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

  /// NX, [49]: to execute was asked for. US, [50]: without privilege.
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

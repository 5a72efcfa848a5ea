// The register layout of the public "pcie-ats-testdev" (1234:11e9), made to test IOMMUs: a 4096-byte
// buffer, an address, and a command that copies between the two.
//
//   0x0  address   64 bits; software writes it whole or as two halves
//   0x8  command   bit 0 RUN, bit 1 direction: 1 memory -> buffer, 0 buffer -> memory
//
// RUN reads 0 when the copy is over, and no interrupt is raised. A copy that meets a page which is
// not there asks for it when page requests are enabled: RUN stays 1, and the copy is done when the
// page request is answered. Other offsets read as ones. An access narrower than 32 bits is to the
// register whose first byte it names; there is none at other offsets.
//
// The public device copies the whole buffer, with no PASID, and only the data tell whether it worked; it
// has no message interrupts and no function level reset. Ours has these because clients (libvfn, the
// kernel's VFIO selftests) want a vector to trigger and a way to reset, and
//
//   0x10  attributes  bits 19:0 PASID, bit 29 execute, bit 30 privileged, bit 31 with PASID
//   0x14  status      of the last copy, read-only: see `Status`
//   0x18  count       bytes that a copy moves, 1 to 4096; 4096 after a reset

package import IOMMU

package struct ATSTestDevice: Endpoint {
  package static var description: FunctionDescription {
    var description = FunctionDescription(
      vendorID: 0x1234, deviceID: 0x11e9, classCode: 0x00ff00, revision: 2)
    description.subsystemVendorID = 0x1af4
    description.subsystemID = 0x1100
    description.interruptPin = 1
    description.bars = [
      BAR(index: 0, size: 4096, is64Bit: true),
      BAR(index: 2, size: 4096, is64Bit: false),
    ]
    description.capabilities = [
      .init(.express(functionLevelReset: true, rootComplexIntegrated: false), at: 0x80),
      .init(.msi(vectors: 8, is64Bit: true, perVectorMasking: false), at: 0xc0),
      .init(.msix(vectors: 8, index: 2, table: 0, pendingBits: 0x800), at: 0xd0),
    ]
    return description
  }

  private enum Register {
    static let address: UInt64 = 0x0
    static let addressHigh: UInt64 = 0x4
    static let command: UInt64 = 0x8
    static let attributes: UInt64 = 0x10
    static let status: UInt64 = 0x14
    static let count: UInt64 = 0x18
  }

  private struct Control: OptionSet {
    let rawValue: UInt32
    static let run = Control(rawValue: 1 << 0)
    static let fromMemory = Control(rawValue: 1 << 1)
  }

  /// How the last copy ended.
  package enum Status: UInt32, Sendable {
    /// There was none, or it has not ended.
    case none = 0
    case completed = 1
    /// The IOMMU blocked it.
    case faulted = 2
    /// There is no memory.
    case aborted = 3
    /// The IOMMU's answer to a translation request, or to a page request, was no.
    case denied = 4
    /// The function may not issue such requests: bus mastering or PASIDs are not enabled.
    case notIssued = 5
  }

  private static let bufferSize = 4096
  /// How often a copy is tried again after pages were said to be there.
  private static let patience = 64

  private var address: UInt64 = 0
  private var command: Control = []
  private var attributes: UInt32 = 0
  private var status = Status.none
  private var count = bufferSize
  private var buffer = [UInt8](repeating: 0, count: bufferSize)
  /// The group of page requests that the copy waits for.
  private var awaited: UInt32?
  private var attempts = 0

  package init() {}

  package mutating func reset() { self = ATSTestDevice() }

  package func read(_ access: RegisterAccess) -> UInt64 {
    guard access.bar == 0 else { return 0 }
    switch access.offset {
    case Register.address: return access.width == 8 ? address : address & 0xffff_ffff
    case Register.addressHigh: return address >> 32
    case Register.command: return UInt64(command.rawValue)
    case Register.attributes: return UInt64(attributes)
    case Register.status: return UInt64(status.rawValue)
    case Register.count: return UInt64(count)
    default: return .max
    }
  }

  package mutating func write(
    _ access: RegisterAccess, _ value: UInt64, through bus: inout UpstreamPort
  ) {
    // While a copy waits, nothing can be changed.
    guard access.bar == 0, awaited == nil else { return }
    switch access.offset {
    case Register.address where access.width == 8: address = value
    case Register.address: address = address & ~0xffff_ffff | value & 0xffff_ffff
    case Register.addressHigh: address = address & 0xffff_ffff | value << 32
    case Register.command:
      command = Control(rawValue: UInt32(truncatingIfNeeded: value))
      guard command.contains(.run) else { return }
      attempts = 0
      copy(through: bus)
    case Register.attributes: attributes = UInt32(truncatingIfNeeded: value)
    case Register.count: count = min(max(Int(value & 0xffff_ffff), 1), Self.bufferSize)
    default: break
    }
  }

  package mutating func take(
    _ response: PageResponse, to group: UInt32, through bus: inout UpstreamPort
  ) {
    guard awaited == group else { return }
    awaited = nil
    if response == .success { copy(through: bus) } else { end(.denied) }
  }

  // MARK: Copying

  private var requestAttributes: DMAAttributes {
    let hasPASID = attributes & 1 << 31 != 0
    return DMAAttributes(
      pasid: hasPASID ? PASID(rawValue: attributes & 0xf_ffff) : nil,
      isPrivileged: attributes & 1 << 30 != 0, executes: attributes & 1 << 29 != 0)
  }

  private mutating func copy(through bus: UpstreamPort) {
    status = .none
    while true {
      switch transfer(through: bus) {
      case nil: return end(.notIssued)
      case .completed: return end(.completed)
      case .fault: return end(.faulted)
      case .aborted: return end(.aborted)
      case .stalled(let group):
        awaited = group
        return
      case .denied:
        attempts += 1
        guard attempts <= Self.patience else { return end(.denied) }
        switch bus.requestPages(
          IOVA(address), count: count, writes: !command.contains(.fromMemory), requestAttributes)
        {
        case .answered(.success): continue
        case .answered, .unavailable: return end(.denied)
        case .awaited(let group):
          awaited = group
          return
        }
      }
    }
  }

  private mutating func transfer(through bus: UpstreamPort) -> DMAOutcome? {
    let iova = IOVA(address)
    guard command.contains(.fromMemory) else {
      return buffer.withUnsafeBytes { buffer in
        bus.write(
          UnsafeRawBufferPointer(rebasing: buffer[..<count]), to: iova, requestAttributes)
      }
    }
    // A copy that faults half-way must move no byte, so it goes through a second buffer.
    var incoming = [UInt8](repeating: 0, count: count)
    let outcome = incoming.withUnsafeMutableBytes { bus.read(iova, requestAttributes, into: $0) }
    if outcome == .completed { buffer.replaceSubrange(..<count, with: incoming) }
    return outcome
  }

  private mutating func end(_ status: Status) {
    self.status = status
    command.remove(.run)
  }
}

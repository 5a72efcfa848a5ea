// SPDX-License-Identifier: Apache-2.0

// The register layout of the public "pcie-ats-testdev" (1234:11e9), made to test IOMMUs: a
// 4096-byte buffer, an address, and a command that copies between the two.
//
//   0x0  address   64 bits; software writes all 64 bits at once or each half on its own
//   0x8  command   bit 0 RUN, bit 1 direction: 1 memory -> buffer, 0 buffer -> memory
//
// RUN reads 0 when the copy has ended; the device raises no interrupt. When page requests are
// enabled and a copy meets a page that is not present, the device requests the page: RUN stays 1,
// and the copy ends when the page request is answered. Other offsets read as ones. An access
// narrower than 32 bits reaches the register whose first byte it addresses, and no register at any
// other offset.
//
// The public device always copies the whole buffer without a PASID, and only the copied data show
// whether the copy worked. It has neither MSI nor a function level reset. Our device has MSI, MSI-X
// and a function level reset because clients (libvfn, the kernel's VFIO selftests) trigger a vector
// and reset the device. Our device also has these registers:
//
//   0x10  attributes  bits 19:0 PASID, bit 29 execute, bit 30 privileged, bit 31 with PASID
//   0x14  status      of the last copy, read-only: see `CopyStatus`
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
      .init(.msix(vectors: 8, bar: 2, table: 0, pendingBits: 0x800), at: 0xd0),
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

  /// The bits of the command register.
  private struct CopyCommand: OptionSet {
    let rawValue: UInt32
    static let run = CopyCommand(rawValue: 1 << 0)
    static let fromMemory = CopyCommand(rawValue: 1 << 1)
  }

  /// How the last copy ended.
  package enum CopyStatus: UInt32, Sendable {
    /// No copy has been started, or the copy has not ended.
    case none = 0
    case completed = 1
    /// The IOMMU blocked the request and recorded a fault.
    case faulted = 2
    /// There was no memory at a translated address.
    case aborted = 3
    /// The IOMMU denied the translation request, or the page request was answered with a failure.
    case denied = 4
    /// The function issued no request: Bus Master Enable or PASID Enable is clear.
    case notIssued = 5
  }

  private static let bufferSize = 4096
  /// How often one copy requests pages before it ends as `.denied`.
  private static let maximumPageRequests = 64

  private var address: UInt64 = 0
  private var command: CopyCommand = []
  private var attributes: UInt32 = 0
  private var status = CopyStatus.none
  private var count = bufferSize
  private var buffer = [UInt8](repeating: 0, count: bufferSize)
  /// The page request group, or the stalled request, whose response the copy waits for.
  private var awaitedGroup: UInt32?
  /// Page requests of the current copy.
  private var pageRequests = 0

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
    _ access: RegisterAccess, _ value: UInt64, through port: inout UpstreamPort
  ) {
    // The device ignores writes while a copy waits for a response.
    guard access.bar == 0, awaitedGroup == nil else { return }
    switch access.offset {
    case Register.address where access.width == 8: address = value
    case Register.address: address = address & ~0xffff_ffff | value & 0xffff_ffff
    case Register.addressHigh: address = address & 0xffff_ffff | value << 32
    case Register.command:
      command = CopyCommand(rawValue: UInt32(truncatingIfNeeded: value))
      guard command.contains(.run) else { return }
      pageRequests = 0
      copy(through: port)
    case Register.attributes: attributes = UInt32(truncatingIfNeeded: value)
    case Register.count: count = min(max(Int(value & 0xffff_ffff), 1), Self.bufferSize)
    default: break
    }
  }

  package mutating func handle(
    _ response: PageResponse, to group: UInt32, through port: inout UpstreamPort
  ) {
    guard awaitedGroup == group else { return }
    awaitedGroup = nil
    if response == .success { copy(through: port) } else { end(.denied) }
  }

  // MARK: Copying

  private var requestAttributes: DMAAttributes {
    let hasPASID = attributes & 1 << 31 != 0
    return DMAAttributes(
      pasid: hasPASID ? PASID(rawValue: attributes & 0xf_ffff) : nil,
      isPrivileged: attributes & 1 << 30 != 0, executes: attributes & 1 << 29 != 0)
  }

  private mutating func copy(through port: UpstreamPort) {
    status = .none
    while true {
      switch transfer(through: port) {
      case nil: return end(.notIssued)
      case .completed: return end(.completed)
      case .fault: return end(.faulted)
      case .aborted: return end(.aborted)
      case .stalled(let group):
        awaitedGroup = group
        return
      case .denied:
        pageRequests += 1
        guard pageRequests <= Self.maximumPageRequests else { return end(.denied) }
        switch port.requestPages(
          IOVA(address), count: count, writes: !command.contains(.fromMemory), requestAttributes)
        {
        case .answered(.success): continue
        case .answered, .unavailable: return end(.denied)
        case .awaited(let group):
          awaitedGroup = group
          return
        }
      }
    }
  }

  private mutating func transfer(through port: UpstreamPort) -> DMAOutcome? {
    let iova = IOVA(address)
    guard command.contains(.fromMemory) else {
      return buffer.withUnsafeBytes { buffer in
        port.write(
          UnsafeRawBufferPointer(rebasing: buffer[..<count]), to: iova, requestAttributes)
      }
    }
    // A copy that faults half-way moves no byte, so the bytes go through a second buffer.
    var incoming = [UInt8](repeating: 0, count: count)
    let outcome = incoming.withUnsafeMutableBytes { port.read(iova, requestAttributes, into: $0) }
    if outcome == .completed { buffer.replaceSubrange(..<count, with: incoming) }
    return outcome
  }

  private mutating func end(_ status: CopyStatus) {
    self.status = status
    command.remove(.run)
  }
}

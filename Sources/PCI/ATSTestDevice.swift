// The register layout of the public "pcie-ats-testdev" (1234:11e9), made to test IOMMUs: a 4096-byte
// buffer, an address, and a command that copies between the two.
//
//   0x0  address   64 bits; software writes it whole or as two halves
//   0x8  command   bit 0 RUN, bit 1 direction: 1 memory -> buffer, 0 buffer -> memory
//
// A copy is always the whole buffer. RUN reads 0 when it is over; nothing tells whether it worked but
// the data, and no interrupt is raised. Other offsets read as ones. An access narrower than 32 bits
// is to the register whose first byte it names; there is none at other offsets.
//
// The public device has no message interrupts and no function level reset. Ours has both, because
// clients (libvfn, the kernel's VFIO selftests) want a vector to trigger and a way to reset.

internal import IOMMU

package struct ATSTestDevice: Endpoint {
  package static var description: FunctionDescription {
    var description = FunctionDescription(
      vendorID: 0x1234, deviceID: 0x11e9, classCode: 0x00ff00, revision: 2)
    description.subsystemVendorID = 0x1af4
    description.subsystemID = 0x1100
    description.interruptPin = 1
    description.baseAddresses = [
      BaseAddress(index: 0, size: 4096, is64Bit: true),
      BaseAddress(index: 2, size: 4096, is64Bit: false),
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
  }

  private struct Control: OptionSet {
    let rawValue: UInt32
    static let run = Control(rawValue: 1 << 0)
    static let fromMemory = Control(rawValue: 1 << 1)
  }

  private static let bufferSize = 4096

  private var address: UInt64 = 0
  private var command: Control = []
  private var buffer = [UInt8](repeating: 0, count: bufferSize)

  package init() {}

  package mutating func reset() { self = ATSTestDevice() }

  package func read(_ access: RegisterAccess) -> UInt64 {
    guard access.baseAddress == 0 else { return 0 }
    switch access.offset {
    case Register.address: return access.width == 8 ? address : address & 0xffff_ffff
    case Register.addressHigh: return address >> 32
    case Register.command: return UInt64(command.rawValue)
    default: return .max
    }
  }

  package mutating func write(_ access: RegisterAccess, _ value: UInt64, through bus: inout Bus) {
    guard access.baseAddress == 0 else { return }
    switch access.offset {
    case Register.address where access.width == 8: address = value
    case Register.address: address = address & ~0xffff_ffff | value & 0xffff_ffff
    case Register.addressHigh: address = address & 0xffff_ffff | value << 32
    case Register.command:
      command = Control(rawValue: UInt32(truncatingIfNeeded: value))
      if command.contains(.run) { copy(through: bus) }
    default: break
    }
  }

  private mutating func copy(through bus: Bus) {
    let iova = IOVA(address)
    if command.contains(.fromMemory) {
      // A copy that faults half-way must move no byte, so it goes through a second buffer.
      var incoming = [UInt8](repeating: 0, count: Self.bufferSize)
      let outcome = incoming.withUnsafeMutableBytes { bus.read(iova, into: $0) }
      if outcome == .completed { buffer = incoming }
    } else {
      _ = buffer.withUnsafeBytes { bus.write($0, to: iova) }
    }
    command.remove(.run)
  }
}

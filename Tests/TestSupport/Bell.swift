package import PCI

/// Registers whose only purpose is interrupts: 0 raises the message written, 4 sets the pin, 8 stores.
package struct Bell: Endpoint {
  package static var description: FunctionDescription {
    var description = ATSTestDevice.description
    description.capabilities.append(.init(.powerManagement(noSoftReset: false), at: 0x60))
    return description
  }

  private var stored: UInt64 = 0

  package init() {}

  package mutating func reset() { self = Bell() }
  package func read(_ access: RegisterAccess) -> UInt64 { access.offset == 8 ? stored : 0 }
  package mutating func write(
    _ access: RegisterAccess, _ value: UInt64, through bus: inout UpstreamPort
  ) {
    switch access.offset {
    case 0: bus.raise(Int(value))
    case 4: bus.setPin(value != 0)
    default: stored = value
    }
  }
}

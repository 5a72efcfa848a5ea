// SPDX-License-Identifier: Apache-2.0

package import PCI

/// An endpoint model for tests of interrupts. A write to offset 0 raises the vector that is
/// written, a write to offset 4 sets the level of INTx, and other offsets store the value, which
/// offset 8 reads.
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
    _ access: RegisterAccess, _ value: UInt64, through port: inout UpstreamPort
  ) {
    switch access.offset {
    case 0: port.raise(Int(value))
    case 4: port.setINTx(asserted: value != 0)
    default: stored = value
    }
  }
}

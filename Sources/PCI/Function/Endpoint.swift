// SPDX-License-Identifier: Apache-2.0

// An endpoint model: the registers that distinguish one device from another, and what they do.
//
// Everything that all functions share (configuration space, address decoding, reset, interrupts) is
// in Function.swift. A model is a value with state. `Function` owns it and calls it with the
// function's lock held, one access at a time. Work that a register write starts is done before the
// write returns, so the same accesses in the same order give the same result.

package import IOMMU

package protocol Endpoint: Sendable {
  /// What software finds in configuration space.
  static var description: FunctionDescription { get }

  /// Makes the model in the state after power-on.
  init()

  /// Puts every register back to its value after power-on. A function level reset, a bus reset and
  /// a return from D3hot call it.
  mutating func reset()

  /// Returns the value of a register. The access lies inside a BAR of the description.
  mutating func read(_ access: RegisterAccess) -> UInt64

  /// Writes a register. DMA and interrupts that the write causes go through `port`.
  mutating func write(_ access: RegisterAccess, _ value: UInt64, through port: inout UpstreamPort)

  /// Continues after the page requests of `group` have been answered. The default does nothing: a
  /// model that makes no page requests gets no answer.
  mutating func handle(_ response: PageResponse, to group: UInt32, through port: inout UpstreamPort)
}

extension Endpoint {
  package mutating func handle(
    _ response: PageResponse, to group: UInt32, through port: inout UpstreamPort
  ) {}
}

/// One memory access to a BAR: 1, 2, 4 or 8 bytes that lie inside the BAR.
package struct RegisterAccess: Sendable {
  /// The BAR's index, 0 to 5.
  package let bar: Int
  /// Bytes from the start of the BAR.
  package let offset: UInt64
  /// Bytes: 1, 2, 4 or 8.
  package let width: Int

  package init(bar: Int, offset: UInt64, width: Int) {
    self.bar = bar
    self.offset = offset
    self.width = width
  }
}

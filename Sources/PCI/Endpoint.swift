// What distinguishes one device from another: its registers and what they do. Everything that all
// functions share (configuration space, decoding, reset, interrupts) is in Function.swift; a model
// is a value with state, called with the function's lock held, one access at a time. Work that a
// register write starts is done before the write returns, so the same accesses give the same result.

package import IOMMU

package protocol Endpoint: Sendable {
  /// What software finds in configuration space.
  static var description: FunctionDescription { get }

  /// The state after power-on.
  init()

  /// Function level, bus or power reset: forgets what software has done.
  mutating func reset()

  mutating func read(_ access: RegisterAccess) -> UInt64

  mutating func write(_ access: RegisterAccess, _ value: UInt64, through bus: inout UpstreamPort)

  /// The page requests of `group` have been answered. The default: the model makes none.
  mutating func take(_ response: PageResponse, to group: UInt32, through bus: inout UpstreamPort)
}

extension Endpoint {
  package mutating func take(
    _ response: PageResponse, to group: UInt32, through bus: inout UpstreamPort
  ) {}
}

/// One access to a range that a base address register decodes: 1, 2, 4 or 8 bytes inside it.
package struct RegisterAccess: Sendable {
  package let bar: Int
  package let offset: UInt64
  package let width: Int

  package init(bar: Int, offset: UInt64, width: Int) {
    self.bar = bar
    self.offset = offset
    self.width = width
  }
}

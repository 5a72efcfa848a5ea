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

  mutating func write(_ access: RegisterAccess, _ value: UInt64, through bus: inout Bus)
}

/// One access to a range that a base address register decodes: 1, 2, 4 or 8 bytes inside it.
package struct RegisterAccess: Sendable {
  package let baseAddress: Int
  package let offset: UInt64
  package let width: Int

  package init(baseAddress: Int, offset: UInt64, width: Int) {
    self.baseAddress = baseAddress
    self.offset = offset
    self.width = width
  }
}

/// What a model can do on the bus while it handles an access.
package struct Bus {
  private let port: any DMAPath
  private let isMaster: Bool
  private(set) var raised: [Int] = []
  private(set) var pin: Bool?

  init(port: any DMAPath, isMaster: Bool) {
    self.port = port
    self.isMaster = isMaster
  }

  /// Fills `buffer` from memory at `iova`.
  /// - Returns: how the request ended; nil without one. A function that is not bus master issues none
  ///   (PCIe §7.5.1.1.3), so the unit sees none and records no fault.
  package func read(
    _ iova: IOVA, pasid: PASID? = nil, into buffer: UnsafeMutableRawBufferPointer
  ) -> DMAOutcome? {
    isMaster ? port.read(iova, pasid: pasid, into: buffer) : nil
  }

  /// Stores `bytes` to memory at `iova`; result as ``read(_:pasid:into:)``.
  package func write(
    _ bytes: UnsafeRawBufferPointer, to iova: IOVA, pasid: PASID? = nil
  ) -> DMAOutcome? {
    isMaster ? port.write(bytes, to: iova, pasid: pasid) : nil
  }

  /// Sends interrupt message `vector`; none is sent while software has enabled neither kind.
  package mutating func raise(_ vector: Int) { raised.append(vector) }

  /// Asserts or deasserts the interrupt pin.
  package mutating func setPin(_ asserted: Bool) { pin = asserted }
}

/// The function's way to memory: the port of an IOMMU, or what a test puts in its place.
package protocol DMAPath: Sendable {
  func read(
    _ iova: IOVA, pasid: PASID?, into buffer: UnsafeMutableRawBufferPointer
  ) -> DMAOutcome
  func write(_ bytes: UnsafeRawBufferPointer, to iova: IOVA, pasid: PASID?) -> DMAOutcome
}

extension DMAPort: DMAPath {}

// The function's side of its upstream port: what a model can do on the bus while it handles an access.
//
// Configuration space decides what may be issued at all: no request without bus mastering, no PASID
// and no privilege that software has not enabled, no page request without the page request
// interface. With ATS enabled every request goes through the function's device TLB.

package import IOMMU

package struct UpstreamPort {
  /// What the function's configuration space allows.
  struct Rights {
    var isMaster = false
    var usesATS = false
    var requestsPages = false
    var hasPASID = false
    var isPrivileged = false
    var executes = false
  }

  private let port: any DMAPath
  private let rights: Rights
  private(set) var raised: [Int] = []
  private(set) var pin: Bool?

  init(port: any DMAPath, rights: Rights) {
    self.port = port
    self.rights = rights
  }

  /// Fills `buffer` from memory at `iova`.
  /// - Returns: how the request ended; nil without one. A function that is not bus master issues none
  ///   (PCIe §7.5.1.1.3), nor does one that may not use PASIDs with a PASID (§6.20.1): the unit sees
  ///   nothing and records no fault.
  package func read(
    _ iova: IOVA, _ attributes: DMAAttributes = .init(), into buffer: UnsafeMutableRawBufferPointer
  ) -> DMAOutcome? {
    allowed(attributes).map { port.read(iova, $0, into: buffer) }
  }

  /// Stores `bytes` to memory at `iova`; result as ``read(_:_:into:)``.
  package func write(
    _ bytes: UnsafeRawBufferPointer, to iova: IOVA, _ attributes: DMAAttributes = .init()
  ) -> DMAOutcome? {
    allowed(attributes).map { port.write(bytes, to: iova, $0) }
  }

  /// Asks for the pages of a request that was denied, as one group.
  package func requestPages(
    _ iova: IOVA, count: Int, writes: Bool, _ attributes: DMAAttributes = .init()
  ) -> PageRequestAnswer {
    guard rights.requestsPages, let attributes = allowed(attributes) else { return .unavailable }
    return port.requestPages(iova, count: count, writes: writes, attributes)
  }

  private func allowed(_ attributes: DMAAttributes) -> DMAAttributes? {
    guard rights.isMaster, attributes.pasid == nil || rights.hasPASID else { return nil }
    return DMAAttributes(
      pasid: attributes.pasid, isPrivileged: attributes.isPrivileged && rights.isPrivileged,
      executes: attributes.executes && rights.executes, usesATS: rights.usesATS)
  }

  /// Sends interrupt message `vector`; none is sent while software has enabled neither kind.
  package mutating func raise(_ vector: Int) { raised.append(vector) }

  /// Asserts or deasserts the interrupt pin.
  package mutating func setPin(_ asserted: Bool) { pin = asserted }
}

/// The function's way to memory: the port of an IOMMU, or what a test puts in its place.
package protocol DMAPath: Sendable {
  func read(
    _ iova: IOVA, _ attributes: DMAAttributes, into buffer: UnsafeMutableRawBufferPointer
  ) -> DMAOutcome
  func write(
    _ bytes: UnsafeRawBufferPointer, to iova: IOVA, _ attributes: DMAAttributes
  ) -> DMAOutcome

  /// Sends page requests for the pages of a request that may not be accessed so, as one group.
  func requestPages(
    _ iova: IOVA, count: Int, writes: Bool, _ attributes: DMAAttributes
  ) -> PageRequestAnswer
  /// Sets who is told of answers that come later than the request's return.
  func setPageResponseReceiver(_ receiver: PageResponseReceiver?)
  /// Forgets what the function's device TLB holds, and its page requests.
  func resetDeviceTLB()
}

/// A path to memory that has no such services.
extension DMAPath {
  package func requestPages(
    _ iova: IOVA, count: Int, writes: Bool, _ attributes: DMAAttributes
  ) -> PageRequestAnswer { .unavailable }
  package func setPageResponseReceiver(_ receiver: PageResponseReceiver?) {}
  package func resetDeviceTLB() {}
}

extension DMAPort: DMAPath {}

// SPDX-License-Identifier: Apache-2.0

// The upstream port of a function, as its model uses it: memory requests, page requests and
// interrupts.
//
// `Function` makes one for each register access. Configuration space decides which requests are
// issued: none without Bus Master Enable, none with a PASID, execute or privileged permission that
// software has not enabled, no page request without the page request interface. With ATS enabled
// every request goes through the function's device TLB.

package import IOMMU

package struct UpstreamPort {
  /// What the function's configuration space allows. Everything is off after a reset.
  struct Rights {
    var isBusMaster = false
    var usesATS = false
    var requestsPages = false
    var hasPASID = false
    var isPrivileged = false
    var executes = false
  }

  private let path: any DMAPath
  private let rights: Rights
  /// The MSI or MSI-X vectors that the model has signalled.
  private(set) var raisedVectors: [Int] = []
  /// The level of INTx that the model has set. `nil` when the model has left INTx unchanged.
  private(set) var intxLevel: Bool?

  init(path: any DMAPath, rights: Rights) {
    self.path = path
    self.rights = rights
  }

  /// Fills `buffer` from memory at `iova`.
  /// - Returns: How the request ended, or `nil` when no request was issued: the function is not bus
  ///   master (PCIe §7.5.1.1.3), or the request has a PASID and PASIDs are not enabled (PCIe
  ///   §6.20.1). The IOMMU does not see such a request and records no fault.
  package func read(
    _ iova: IOVA, _ attributes: DMAAttributes = .init(), into buffer: UnsafeMutableRawBufferPointer
  ) -> DMAOutcome? {
    allowed(attributes).map { path.read(iova, $0, into: buffer) }
  }

  /// Stores `bytes` to memory at `iova`.
  /// - Returns: The same as ``read(_:_:into:)``.
  package func write(
    _ bytes: UnsafeRawBufferPointer, to iova: IOVA, _ attributes: DMAAttributes = .init()
  ) -> DMAOutcome? {
    allowed(attributes).map { path.write(bytes, to: iova, $0) }
  }

  /// Requests the pages of `count` bytes at `iova` as one page request group, after ATS has denied
  /// a translation.
  /// - Parameter writes: Whether the function will write to the pages.
  package func requestPages(
    _ iova: IOVA, count: Int, writes: Bool, _ attributes: DMAAttributes = .init()
  ) -> PageRequestAnswer {
    guard rights.requestsPages, let attributes = allowed(attributes) else { return .unavailable }
    return path.requestPages(iova, count: count, writes: writes, attributes)
  }

  private func allowed(_ attributes: DMAAttributes) -> DMAAttributes? {
    guard rights.isBusMaster, attributes.pasid == nil || rights.hasPASID else { return nil }
    return DMAAttributes(
      pasid: attributes.pasid, isPrivileged: attributes.isPrivileged && rights.isPrivileged,
      executes: attributes.executes && rights.executes, usesATS: rights.usesATS)
  }

  /// Signals MSI or MSI-X vector `vector`. The function drops the signal while software has enabled
  /// neither MSI nor MSI-X.
  package mutating func raise(_ vector: Int) { raisedVectors.append(vector) }

  /// Asserts or deasserts INTx.
  package mutating func setINTx(asserted: Bool) { intxLevel = asserted }
}

// SPDX-License-Identifier: Apache-2.0

internal import FrontEnd
internal import Host
internal import Logging

/// What the sessions of one server share.
final class SharedResources: Sendable {
  /// Device calls that run at the same time in the whole server.
  static let callLimit = 64
  let limiter = CallLimiter(limit: callLimit, ownerLimit: 16)
  let tracer: Tracer
  let grants: GrantedCapabilities
  /// The nodes of the server.
  let nodes = ServedNodes()
  let lookup: DescriptorLookup
  let closer: DescriptorCloser
  let expectedOpens: ExpectedOpens
  let addressSpaces: AddressSpaceRegistry
  let log: Logger

  /// - Parameters:
  ///   - queuePath: the path of the queue node.
  ///   - processEnds: see ``CUSEServer``.
  init(
    queuePath: String, grants: GrantedCapabilities, tracer: Tracer, log: Logger,
    processEnds: (@Sendable (AddressSpace) -> Void)?
  ) {
    self.tracer = tracer
    self.grants = grants
    lookup = DescriptorLookup(nodes: nodes)
    closer = DescriptorCloser(nodes: nodes)
    expectedOpens = ExpectedOpens(queuePath: queuePath)
    addressSpaces = AddressSpaceRegistry(
      retainer: processEnds.flatMap { AddressSpaceRetainer(onExit: $0) })
    self.log = log
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import FrontEnd
internal import Glibc
internal import Host
internal import Logging

/// What the sessions of one server share.
final class SharedResources: Sendable {
  /// Device calls that run at the same time in the whole server.
  static let callLimit = 512
  let limiter = CallLimiter(limit: callLimit, .init(user: 2, process: 4))
  let callers = CallerMonitor()
  let tracer: Tracer
  let grants: GrantedCapabilities
  /// The nodes of the server.
  let nodes = ServedNodes()
  let lookup: DescriptorLookup
  let closer: DescriptorCloser
  let expectedOpens: ExpectedOpens
  let addressSpaces: AddressSpaceRegistry
  let log: Logger
  /// `nil` when the kernel is not to pin private memory of clients.
  let pinning: ExactPinning?
  /// The seccomp filters of this process, which do not refuse the calls of agents.
  let ownFilters = HostTask(id: getpid()).seccompFilters ?? 0

  /// - Parameters:
  ///   - queuePath: the path of the queue node.
  ///   - processEnds: see ``CUSEServer``.
  init(
    queuePath: String, grants: GrantedCapabilities, tracer: Tracer, log: Logger, pinsExactly: Bool,
    processEnds: (@Sendable (AddressSpace) -> Void)?
  ) {
    self.tracer = tracer
    self.grants = grants
    lookup = DescriptorLookup(nodes: nodes)
    closer = DescriptorCloser(nodes: nodes)
    expectedOpens = ExpectedOpens(queuePath: queuePath)
    let pinning = pinsExactly ? try? ExactPinning() : nil
    self.pinning = pinning
    addressSpaces = AddressSpaceRegistry(
      retainer: processEnds.flatMap { processEnds in
        AddressSpaceRetainer { space in
          processEnds(space)
          pinning?.leave(space)
        }
      })
    self.log = log
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
package import SystemPackage

/// Something that the server holds for its clients, divided among them by ``Shares``.
package final class ChargedShares: Sendable {
  /// Descriptors of this process: files that clients map, their eventfds, the descriptors of their
  /// address spaces, and the ends of queues' sockets.
  package static let descriptors = ChargedShares()
  /// Open files of device nodes.
  package static let openFiles = ChargedShares()

  private struct State: Sendable {
    /// `nil` while everybody may have everything.
    var shares: Shares?
  }
  private let state = Mutex(State())

  package init() {}

  /// Divides `total` items from now on. To be called before the first charge.
  package func divide(_ total: Int, _ fractions: Shares.Fractions) {
    state.withLock { $0.shares = Shares(of: total, fractions) }
  }

  /// Charges `client` for `count` items, until the last reference to the charge goes.
  /// - Throws: `.tooManyOpenFiles` when the client has used up its share.
  package func charge(_ client: ClientIdentity, count: Int = 1) throws(Errno) -> Charge {
    try state.withLock { state throws(Errno) in
      if let shares = state.shares {
        guard shares.admits(client) else { throw .tooManyOpenFiles }
      }
      for _ in 0..<count { state.shares?.take(for: client) }
      return Charge(self, client, count)
    }
  }

  private func end(_ charge: Charge) {
    state.withLock { state in
      for _ in 0..<charge.count { state.shares?.give(backBy: charge.client) }
    }
  }

  /// Items for which a client is charged.
  package final class Charge: Sendable {
    private let owner: ChargedShares
    fileprivate let client: ClientIdentity
    fileprivate let count: Int

    fileprivate init(_ owner: ChargedShares, _ client: ClientIdentity, _ count: Int) {
      self.owner = owner
      self.client = client
      self.count = count
    }

    deinit { owner.end(self) }
  }
}

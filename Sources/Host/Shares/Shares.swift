// SPDX-License-Identifier: Apache-2.0

// How a supply of equal items (threads, descriptors) is divided between clients when a client may
// keep its items for ever: a call whose struct lies on a page that never arrives keeps its thread,
// and a mapped file its descriptor.
//
// A fixed share for each client would either be small, or be exhausted by a few clients. So a share
// shrinks with what is left: a process may have up to a fraction of the items that are free at the
// moment. However much the others have taken, a newcomer finds items: with a fraction of one
// eighth, forty hostile processes leave some items of 512 to the next. A second fraction limits
// what one user may have, with any number of processes.
//
// A value of this type is guarded by the lock of its owner.

package struct Shares: Sendable {
  /// The parts of the free items that one user, and one process of the user, may have.
  package struct Fractions: Sendable {
    let user: Int?
    let process: Int

    /// - Parameters:
    ///   - user: the divisor. `nil` when all clients belong to one user.
    ///   - process: the divisor for a process, of what its user may still have.
    package init(user: Int?, process: Int) {
      self.user = user
      self.process = process
    }
  }

  package let total: Int
  private let fractions: Fractions
  /// The number of items in use.
  package private(set) var used = 0
  private var users: [UInt32: Int] = [:]
  private var processes: [ClientIdentity: Int] = [:]

  package init(of total: Int, _ fractions: Fractions) {
    self.total = total
    self.fractions = fractions
  }

  /// Without shares of users, processes count by their IDs alone.
  private func counted(_ client: ClientIdentity) -> ClientIdentity {
    fractions.user == nil ? ClientIdentity(user: 0, process: client.process) : client
  }

  /// Whether `client` may take one more item. A client without an item may take one as long as
  /// there is one and its user is within its share.
  package func admits(_ client: ClientIdentity) -> Bool {
    var room = total - used
    guard room > 0 else { return false }
    if let divisor = fractions.user {
      let ofUser = users[client.user, default: 0]
      if ofUser == 0 { return true }
      room = room / divisor - ofUser
      guard room > 0 else { return false }
    }
    return processes[counted(client), default: 0] < max(1, room / fractions.process)
  }

  /// Counts an item as used.
  /// - Parameter client: `nil` for an item that counts for no client.
  package mutating func take(for client: ClientIdentity?) {
    used += 1
    guard let client = client.map(counted) else { return }
    users[client.user, default: 0] += 1
    processes[client, default: 0] += 1
  }

  /// Reverses ``take(for:)``.
  package mutating func give(backBy client: ClientIdentity?) {
    used -= 1
    guard let client = client.map(counted) else { return }
    Self.decrement(&users, client.user)
    Self.decrement(&processes, client)
  }

  private static func decrement<Key: Hashable>(_ counts: inout [Key: Int], _ key: Key) {
    guard let index = counts.index(forKey: key) else { return }
    if counts.values[index] > 1 { counts.values[index] -= 1 } else { counts.remove(at: index) }
  }
}

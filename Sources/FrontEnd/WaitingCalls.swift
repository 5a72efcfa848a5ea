// SPDX-License-Identifier: Apache-2.0

internal import DequeModule
package import Host

/// Calls that wait until their client is within its share. Users are served in turn, and the
/// processes of one user in turn.
///
/// There are never more waiting calls than threads of clients, because a thread waits in one call.
package struct WaitingCalls<Call: Sendable>: Sendable {
  private var users: [UInt32: WaitingProcesses<Call>] = [:]
  /// The users that have waiting calls, each once.
  private var turns = Deque<UInt32>()
  package private(set) var count = 0

  package init() {}

  package mutating func append(_ call: Call, of client: ClientIdentity) {
    count += 1
    if users[client.user] == nil {
      users[client.user] = WaitingProcesses()
      turns.append(client.user)
    }
    users[client.user]?.append(call, of: client.process)
  }

  /// Removes and returns the next call whose client `shares` admits.
  package mutating func next(within shares: Shares) -> (call: Call, client: ClientIdentity)? {
    for _ in 0..<turns.count {
      guard let id = turns.popFirst() else { break }
      let found = users[id]?.next { shares.admits(ClientIdentity(user: id, process: $0)) }
      if users[id]?.isEmpty == true { users[id] = nil } else { turns.append(id) }
      guard let found else { continue }
      count -= 1
      return (found.call, ClientIdentity(user: id, process: found.process))
    }
    return nil
  }
}

/// The waiting calls of one user.
private struct WaitingProcesses<Call: Sendable>: Sendable {
  private var queues: [Int32: Deque<Call>] = [:]
  /// The processes that have waiting calls, each once.
  private var turns = Deque<Int32>()

  var isEmpty: Bool { turns.isEmpty }

  mutating func append(_ call: Call, of process: Int32) {
    if queues[process] == nil { turns.append(process) }
    queues[process, default: []].append(call)
  }

  mutating func next(
    where isAdmitted: (_ process: Int32) -> Bool
  ) -> (call: Call, process: Int32)? {
    for _ in 0..<turns.count {
      guard let process = turns.popFirst() else { break }
      guard isAdmitted(process), let call = queues[process]?.popFirst() else {
        turns.append(process)
        continue
      }
      if queues[process]?.isEmpty == true { queues[process] = nil } else { turns.append(process) }
      return (call, process)
    }
    return nil
  }
}

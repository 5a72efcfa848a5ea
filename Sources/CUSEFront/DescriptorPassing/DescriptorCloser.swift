// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Host
internal import Synchronization

/// Closes copies of clients' descriptors that a device has kept.
///
/// Such a close can be the last close of a file on one of this server's nodes. It then waits until
/// this server has handled the release. A thread that is inside a release must not wait for another
/// release: files that hold each other in a chain would occupy one thread per link. So one thread
/// that holds no file closes these copies, through an ``UnsharedTable``.
final class DescriptorCloser: Sendable {
  private struct Queue {
    var descriptors: [Int32] = []
    var isRunning = false
  }

  private let nodes: ServedNodes
  private let queue = Mutex(Queue())

  init(nodes: ServedNodes) {
    self.nodes = nodes
  }

  /// Closes `descriptor`: at once, or on the closer's thread when it is a file on a node of this
  /// server.
  func close(_ descriptor: Int32) {
    guard nodes.isFileOfNode(descriptor) else {
      Glibc.close(descriptor)
      return
    }
    let mustStart = queue.withLock { queue in
      queue.descriptors.append(descriptor)
      defer { queue.isRunning = true }
      return !queue.isRunning
    }
    guard mustStart, !startThread(named: "fd-closer", { self.drain() }) else { return }
    // The next close tries again to start a thread, which then closes all.
    queue.withLock { $0.isRunning = false }
  }

  /// Closes descriptors until none is left. The thread then ends, so that an idle server has none.
  private func drain() {
    while let next = queue.withLock({ queue -> Int32? in
      guard !queue.descriptors.isEmpty else {
        queue.isRunning = false
        return nil
      }
      return queue.descriptors.removeFirst()
    }) {
      UnsharedTable.close(next)
    }
  }
}

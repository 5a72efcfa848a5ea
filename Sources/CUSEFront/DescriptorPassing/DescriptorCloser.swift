// Closing a copy of a client's descriptor can be the last close of one of our own nodes, which
// waits until this server has handled the release. A thread that is inside a release must not wait
// for another one: a chain of files that hold each other would take a thread per link. Copies that a
// device keeps are therefore closed here, by one thread that holds nothing, in an UnsharedTable.

internal import Glibc
internal import Host
internal import Synchronization

final class DescriptorCloser: Sendable {
  private struct Queue {
    var descriptors: [Int32] = []
    var isRunning = false
  }

  private let queue = Mutex(Queue())

  func close(_ descriptor: Int32) {
    let mustStart = queue.withLock { queue in
      queue.descriptors.append(descriptor)
      defer { queue.isRunning = true }
      return !queue.isRunning
    }
    guard mustStart, !startThread(named: "closer", { self.drain() }) else { return }
    // The next one tries again, for all.
    queue.withLock { $0.isRunning = false }
  }

  /// The thread ends when nothing is left, so that an idle server has none.
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

// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// How often pages of processes were pinned by the kernel and in place, and why in place. One for
/// this server; the lock is a leaf.
package final class PinningReport: Sendable {
  package static let shared = PinningReport()

  private let exactPins = Atomic(0)
  private let pinsInPlace = Atomic(0)
  private let reasons = Mutex<Set<String>>([])
  private let log = Mutex(Log(write: { _ in }))

  /// A closure in a struct: a generic box would wrap a bare closure again at every access.
  private struct Log {
    var write: @Sendable (String) -> Void
  }

  package init() {}

  /// Sets the function that writes a message to the log.
  package func setLog(_ write: @escaping @Sendable (String) -> Void) {
    log.withLock { $0.write = write }
  }

  package var counts: (exact: Int, inPlace: Int) {
    (exactPins.load(ordering: .relaxed), pinsInPlace.load(ordering: .relaxed))
  }

  package func recordExactPin() { exactPins.wrappingAdd(1, ordering: .relaxed) }
  package func recordPinInPlace() { pinsInPlace.wrappingAdd(1, ordering: .relaxed) }

  /// Logs, once for each reason, why pages are used in place.
  /// - Parameter memory: what the pages are.
  package func explain(_ reason: String, of memory: String = "private memory") {
    guard reasons.withLock({ $0.insert("\(memory): \(reason)").inserted }) else { return }
    let log = log.withLock { $0 }
    log.write("\(memory) of clients is used in place, not pinned: \(reason)")
  }
}

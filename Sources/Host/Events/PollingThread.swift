// SPDX-License-Identifier: Apache-2.0

// A thread that polls something whose changes cause no event: registers in memory that is shared
// with a client.
//
// After a change the thread polls again at once, because the client that made the change waits for
// the result; between two polls the thread yields the processor. While nothing changes, the pauses
// between polls grow to one millisecond.

internal import Glibc

package enum PollingThread {
  /// The result of one poll.
  package enum Outcome: Sendable {
    case changed
    case unchanged
    /// There is nothing left to poll; the thread ends.
    case finished
  }

  /// Unchanged polls before the first pause.
  private static let eagerPolls = 100
  /// Unchanged polls with one length of pause, before the length doubles.
  private static let pollsPerPause = 16
  /// Nanoseconds.
  private static let firstPause: UInt64 = 16_000
  private static let longestPause: UInt64 = 1_000_000

  /// Starts a thread that calls `poll` until `poll` returns `.finished`.
  /// - Returns: false when the host cannot create a thread.
  package static func start(
    named name: String, _ poll: @escaping @Sendable () -> Outcome
  ) -> Bool {
    startThread(named: name) {
      var unchangedPolls = 0
      while true {
        switch poll() {
        case .changed: unchangedPolls = 0
        case .unchanged: unchangedPolls = min(unchangedPolls + 1, 1_000)
        case .finished: return
        }
        pause(after: unchangedPolls)
      }
    }
  }

  private static func pause(after unchangedPolls: Int) {
    guard unchangedPolls > eagerPolls else {
      sched_yield()
      return
    }
    let doublings = UInt64((unchangedPolls - eagerPolls) / pollsPerPause)
    let nanoseconds = min(firstPause << doublings, longestPause)
    var time = timespec(tv_sec: 0, tv_nsec: Int(nanoseconds))
    nanosleep(&time, nil)
  }
}

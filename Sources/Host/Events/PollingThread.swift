// A thread that looks at something which changes without a word: registers in memory that is shared
// with a client.
//
// After a change it looks again at once, as who made the change waits for an answer, and yields the
// processor in between. When nothing changes it looks ever more seldom, up to once in a
// millisecond; when there is nothing to look at any more it ends.

internal import Glibc

package enum PollingThread {
  package enum Finding: Sendable {
    case change
    case nothing
    /// There is nothing to look at any more.
    case end
  }

  /// Looks without a pause between them.
  private static let eagerLooks = 100
  /// Looks at each pause, before it is doubled.
  private static let looksPerPause = 16
  private static let firstPause: UInt64 = 16_000
  private static let longestPause: UInt64 = 1_000_000

  /// Calls `look` until it finds the end.
  /// - Returns: false when there is no thread to be had.
  package static func start(
    named name: String, _ look: @escaping @Sendable () -> Finding
  ) -> Bool {
    startThread(named: name) {
      var looks = 0
      while true {
        switch look() {
        case .change: looks = 0
        case .nothing: looks = min(looks + 1, 1_000)
        case .end: return
        }
        pause(after: looks)
      }
    }
  }

  private static func pause(after looks: Int) {
    guard looks > eagerLooks else {
      sched_yield()
      return
    }
    let doublings = UInt64((looks - eagerLooks) / looksPerPause)
    let nanoseconds = min(firstPause << doublings, longestPause)
    var time = timespec(tv_sec: 0, tv_nsec: Int(nanoseconds))
    nanosleep(&time, nil)
  }
}

// SPDX-License-Identifier: Apache-2.0

import FrontEnd
import Glibc
import Host
import Synchronization
import TestSupport
import Testing

@testable import CUSEFront

@Suite("The limit of calls that run at the same time")
struct CallLimiterTests {
  /// Calls of one owner, each on a thread of its own. They run until `released` is set.
  private final class Calls: Sendable {
    let started = Atomic(0)
    let released = Atomic(false)
    let order = Mutex<[Int32]>([])

    /// - Parameter owner: the process of the calls; its user has the same number.
    func start(_ count: Int, for owner: Int32, user: UInt32 = 0, in limiter: CallLimiter) {
      let client = ClientIdentity(user: user, process: owner)
      for _ in 0..<count {
        startThread(named: "call") {
          limiter.run(for: client) { [self] in
            order.withLock { $0.append(owner) }
            started.add(1, ordering: .sequentiallyConsistent)
            while !released.load(ordering: .sequentiallyConsistent) { usleep(200) }
          }
        }
      }
    }
  }

  @Test func oneOwnerCannotOccupyAllThreads() {
    let limiter = CallLimiter(limit: 32, .init(user: nil, process: 8))
    let hostile = Calls()
    hostile.start(20, for: 1, in: limiter)
    #expect(eventually { limiter.counts == (3, 17) })
    let other = Calls()
    other.start(1, for: 2, in: limiter)
    #expect(eventually { other.started.load(ordering: .sequentiallyConsistent) == 1 })
    #expect(limiter.counts == (4, 17))
    hostile.released.store(true, ordering: .sequentiallyConsistent)
    other.released.store(true, ordering: .sequentiallyConsistent)
    #expect(eventually { limiter.counts == (0, 0) })
    #expect(hostile.started.load(ordering: .sequentiallyConsistent) == 20)
  }

  @Test func callsOfWaitingOwnersRunInTurn() {
    let limiter = CallLimiter(limit: 1, .init(user: nil, process: 1))
    let first = Calls()
    first.start(1, for: 9, in: limiter)
    #expect(eventually { limiter.counts == (1, 0) })
    let calls = Calls()
    calls.released.store(true, ordering: .sequentiallyConsistent)
    calls.start(4, for: 1, in: limiter)
    #expect(eventually { limiter.counts == (1, 4) })
    calls.start(2, for: 2, in: limiter)
    #expect(eventually { limiter.counts == (1, 6) })
    first.released.store(true, ordering: .sequentiallyConsistent)
    #expect(eventually { limiter.counts == (0, 0) })
    #expect(calls.order.withLock { $0 } == [1, 2, 1, 2, 1, 1])
  }

  @Test func aStoppedLimiterAdmitsNoCall() {
    let limiter = CallLimiter(limit: 2, .init(user: nil, process: 1))
    limiter.stop(waitingFor: 0)
    let calls = Calls()
    calls.start(1, for: 1, in: limiter)
    #expect(eventually { limiter.counts == (0, 1) })
    #expect(calls.started.load(ordering: .sequentiallyConsistent) == 0)
  }
}

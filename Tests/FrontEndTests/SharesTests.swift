// SPDX-License-Identifier: Apache-2.0

import FrontEnd
import Host
import Testing

@Suite("Shares of clients in a supply of equal items")
struct SharesTests {
  /// Takes items for `client` until its share is used up.
  /// - Returns: the number of items.
  private func exhaust(_ shares: inout Shares, _ client: ClientIdentity) -> Int {
    var count = 0
    while shares.admits(client) {
      shares.take(for: client)
      count += 1
    }
    return count
  }

  @Test func aProcessHasAFractionOfWhatIsFree() {
    var shares = Shares(of: 512, .init(user: nil, process: 8))
    let counts = (1...4).map { exhaust(&shares, ClientIdentity(user: 0, process: $0)) }
    #expect(counts == [57, 50, 45, 40])
    #expect(shares.used == 192)
  }

  @Test func aNewcomerFindsItemsWhateverManyProcessesHaveTaken() {
    var shares = Shares(of: 512, .init(user: nil, process: 8))
    for process in 1...40 {
      #expect(exhaust(&shares, ClientIdentity(user: 0, process: Int32(process))) > 0)
    }
    #expect(shares.admits(ClientIdentity(user: 0, process: 99)))
  }

  @Test func aUserHasAFractionWithAnyNumberOfProcesses() {
    var shares = Shares(of: 512, .init(user: 2, process: 4))
    for process in 1...1000 {
      _ = exhaust(&shares, ClientIdentity(user: 1, process: Int32(process)))
    }
    #expect(shares.used <= 171)
    #expect(exhaust(&shares, ClientIdentity(user: 2, process: 5000)) > 20)
  }

  @Test func anItemThatIsGivenBackCanBeTakenAgain() {
    var shares = Shares(of: 8, .init(user: nil, process: 4))
    let client = ClientIdentity(user: 0, process: 1)
    let count = exhaust(&shares, client)
    shares.give(backBy: client)
    #expect(exhaust(&shares, client) == 1)
    for _ in 0..<count { shares.give(backBy: client) }
    #expect(shares.used == 0)
  }

  @Test func waitingCallsAreServedInTurnOfUsersAndProcesses() {
    var waiting = WaitingCalls<String>()
    let shares = Shares(of: 10, .init(user: nil, process: 1))
    for (call, user, process) in [
      ("a1", 1, 1), ("a2", 1, 1), ("b1", 1, 2), ("c1", 2, 3), ("c2", 2, 3),
    ] as [(String, UInt32, Int32)] {
      waiting.append(call, of: ClientIdentity(user: user, process: process))
    }
    var order: [String] = []
    while let next = waiting.next(within: shares) { order.append(next.call) }
    #expect(order == ["a1", "c1", "b1", "c2", "a2"])
    #expect(waiting.count == 0)
  }

  @Test func aCallWhoseClientHasUsedUpItsShareKeepsWaiting() {
    var waiting = WaitingCalls<String>()
    var shares = Shares(of: 2, .init(user: nil, process: 2))
    let (first, second) = (
      ClientIdentity(user: 0, process: 1), ClientIdentity(user: 0, process: 2)
    )
    shares.take(for: first)
    waiting.append("first", of: first)
    waiting.append("second", of: second)
    #expect(waiting.next(within: shares)?.call == "second")
    #expect(waiting.next(within: shares) == nil)
    shares.give(backBy: first)
    #expect(waiting.next(within: shares)?.call == "first")
  }
}

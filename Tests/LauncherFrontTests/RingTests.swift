// SPDX-License-Identifier: Apache-2.0

internal import Testing

@testable import LauncherFront

@Suite struct RingTests {
  /// The fdinfo of a ring as Linux 7.3 shows it.
  private func text(entries: String, thread: Int = -1) -> String {
    """
    pos:\t0
    SqMask:\t0x7
    SqHead:\t0
    SQEs:\t2
    \(entries)
    CQEs:\t1
        0: user_data:9, res:0, flags:0
    SqThread:\t\(thread)
    UserFiles:\t1
        0: socket:[77]
    UserBufs:\t0
    """
  }

  private let write =
    "opcode:WRITE, fd:960, flags:4, off:0, addr:0x1000, rw_flags:0x0, buf_index:0 user_data:7"

  @Test func entriesAreFoundInTheirOrder() throws {
    let pending = try #require(
      PendingSubmissions(text(entries: "    3: \(write)\n    1: \(write)")))
    #expect(pending.count == 8)
    #expect(pending.entries.map(\.index) == [3, 1])
    #expect(pending.entries.allSatisfy { $0.descriptor == 960 && $0.flags == 4 && !$0.isWide })
    #expect(pending.files == [0: "socket:[77]"])
    #expect(!pending.hasThread)
  }

  @Test func wideEntriesHaveASecondHalf() throws {
    let pending = try #require(PendingSubmissions(text(entries: "    3: \(write), e0:0x0, e1:0x0")))
    #expect(pending.entries.map(\.isWide) == [true])
    #expect(pending.entries.map(\.userData) == [7])
    let mixed = write.replacing("WRITE", with: "NOP128") + ", e0:0x0"
    #expect(
      try #require(PendingSubmissions(text(entries: "    3: \(mixed)"))).entries.map(\.isWide)
        == [false])
  }

  @Test func aThreadOfTheKernelIsSeen() throws {
    let pending = try #require(PendingSubmissions(text(entries: "", thread: 4711)))
    #expect(pending.hasThread && pending.entries.isEmpty)
  }

  @Test func aRingThatAnotherThreadUsesShowsNothing() {
    #expect(PendingSubmissions("pos:\t0\nflags:\t02\n") == nil)
  }

  @Test func aRequestAfterOneOfTheKernelWaitsForIt() {
    var chain = RingChain()
    chain.add(0, result: nil)
    #expect(!chain.hasForeign)
    chain.add(4, result: nil)
    #expect(chain.hasForeign)
    chain.add(0, result: nil)
    #expect(!chain.hasForeign)
  }

  @Test func aFailureCancelsWhatIsLinked() {
    var chain = RingChain()
    chain.add(4, result: -22)
    #expect(chain.hasFailed)
    chain.add(0, result: -125)
    #expect(!chain.hasFailed)
    chain.add(8, result: -22)
    #expect(!chain.hasFailed)
  }
}

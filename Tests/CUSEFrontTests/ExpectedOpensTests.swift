// SPDX-License-Identifier: Apache-2.0

import FrontEnd
import Host
import Synchronization
import Testing
import UAPI

@testable import CUSEFront

@Suite("Files that a device makes for a client")
struct ExpectedOpensTests {
  private final class CountingFile: OpenFile {
    let releases = Atomic(0)
    var count: Int { releases.load(ordering: .relaxed) }
    func release() { releases.add(1, ordering: .relaxed) }
  }

  @Test func onlyTheRegisteredThreadGetsTheFile() {
    let expectedOpens = ExpectedOpens(queuePath: "/dev/queue")
    let pending = PendingFile(CountingFile())
    expectedOpens.register(pending, openedBy: 7)
    #expect(expectedOpens.claimFile(openedBy: 8) == nil)
    #expect(expectedOpens.claimFile(openedBy: 7) === pending)
    #expect(expectedOpens.claimFile(openedBy: 7) == nil)
    expectedOpens.register(pending, openedBy: 7)
    expectedOpens.unregister(7)
    #expect(expectedOpens.claimFile(openedBy: 7) == nil)
  }

  @Test func anInstalledFileIsReleasedAtItsLastClose() {
    let file = CountingFile()
    let pending = PendingFile(file)
    let served = ServedFile(file, owner: ClientIdentity(user: 0, process: 1), pending: pending)
    pending.install()
    #expect(file.count == 0)
    served.release()
    #expect(file.count == 1)
  }

  /// Another thread of the client closes the descriptor before its number is stored.
  @Test func aFileClosedDuringTheCallIsReleasedAtTheEndOfTheCall() {
    let file = CountingFile()
    let pending = PendingFile(file)
    ServedFile(file, owner: ClientIdentity(user: 0, process: 1), pending: pending).release()
    #expect(file.count == 0)
    pending.install()
    #expect(file.count == 1)
  }

  @Test(arguments: [true, false])
  func aWithdrawnFileIsNeverReleased(isClosedFirst: Bool) {
    let file = CountingFile()
    let pending = PendingFile(file)
    let served = ServedFile(file, owner: ClientIdentity(user: 0, process: 1), pending: pending)
    #expect(served.isUsable)
    if isClosedFirst { served.release() }
    pending.withdraw()
    #expect(!served.isUsable)
    if !isClosedFirst { served.release() }
    #expect(file.count == 0)
  }
}

import Synchronization
import Testing
import UAPI

@testable import CUSEFront

@Suite("Files handed to clients")
struct ExpectedOpensTests {
  private final class CountingFile: OpenFile {
    let releases = Atomic(0)
    var count: Int { releases.load(ordering: .relaxed) }
    func release() { releases.add(1, ordering: .relaxed) }
  }

  @Test func onlyTheNamedThreadGetsTheFile() {
    let handover = ExpectedOpens()
    let pending = PendingFile(CountingFile())
    handover.expect(pending, openedBy: 7)
    #expect(handover.take(by: 8) == nil)
    #expect(handover.take(by: 7) === pending)
    #expect(handover.take(by: 7) == nil)
    handover.expect(pending, openedBy: 7)
    handover.forget(7)
    #expect(handover.take(by: 7) == nil)
  }

  @Test func anInstalledFileIsReleasedAtItsLastClose() {
    let file = CountingFile()
    let pending = PendingFile(file)
    let served = ServedFile(file, owner: 1, handover: pending)
    pending.install()
    #expect(file.count == 0)
    served.release()
    #expect(file.count == 1)
  }

  /// Another thread of the client closes the descriptor before its number is stored.
  @Test func aCloseBeforeTheEndOfTheCallWaitsForIt() {
    let file = CountingFile()
    let pending = PendingFile(file)
    ServedFile(file, owner: 1, handover: pending).release()
    #expect(file.count == 0)
    pending.install()
    #expect(file.count == 1)
  }

  @Test(arguments: [true, false])
  func aWithdrawnFileIsNeverReleased(isClosedFirst: Bool) {
    let file = CountingFile()
    let pending = PendingFile(file)
    let served = ServedFile(file, owner: 1, handover: pending)
    #expect(served.isUsable)
    if isClosedFirst { served.release() }
    pending.withdraw()
    #expect(!served.isUsable)
    if !isClosedFirst { served.release() }
    #expect(file.count == 0)
  }
}

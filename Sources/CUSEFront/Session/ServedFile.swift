internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// One open file of a session: what the kernel's handle number stands for.
final class ServedFile: Sendable {
  let file: any OpenFile
  /// The process that opened it; what its calls are charged to.
  let owner: Int32
  let poll = PollWaker()
  /// For a file that was handed to a client: the state of that.
  private let handover: PendingFile?
  private let saidDenied = Atomic(false)
  /// How calls on this file recognise descriptors that they have named before.
  let namedFiles = NamedFiles()
  let cutTransfers = SplitTransfers()
  private let ownMark = Mutex<FileMark?>(nil)

  init(_ file: any OpenFile, owner: Int32, handover: PendingFile? = nil) {
    self.file = file
    self.owner = owner
    self.handover = handover
  }

  /// Readiness is watched from the open on: a change between two polls must wake the second.
  func watch() {
    file.setReadinessObserver { [poll] in poll.wake() }
  }

  /// The last reference is gone.
  func release() {
    mark = nil
    file.setReadinessObserver(nil)
    poll.end()
    if let handover { handover.closed() } else { file.release() }
  }

  /// By which this file is recognised among descriptors; nil when that has not been worth it yet.
  var mark: FileMark? {
    get { ownMark.withLock { $0 } }
    set { ownMark.withLock { $0 = newValue } }
  }

  /// False for a file that the device took back while another thread of the client held on to it.
  var isUsable: Bool { handover?.isWithdrawn != true }

  /// True the first time only: a condition worth one line in the log per open file.
  func shouldReportDenial() -> Bool {
    saidDenied.exchange(true, ordering: .relaxed) == false
  }
}

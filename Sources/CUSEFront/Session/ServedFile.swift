// SPDX-License-Identifier: Apache-2.0

internal import FrontEnd
internal import Host
internal import Synchronization
internal import UAPI

/// One open file of a session: what a handle number of the kernel stands for.
final class ServedFile: Sendable {
  let file: any OpenFile
  /// The process that opened the file, and its user. Calls on the file count for it in the
  /// ``CallLimiter``.
  let owner: ClientIdentity
  let poll = PollNotifier()
  /// The files behind descriptors that ioctls on this file have named.
  let descriptorCache = DescriptorCache()
  let splitTransfers = SplitTransfers()
  /// The state of the installation, for a file that a device made for a client. Otherwise `nil`.
  private let pending: PendingFile?
  /// The owner's charge for an open file. `nil` for a file that a device made.
  private let charge: ChargedShares.Charge?
  private let hasReportedDenial = Atomic(false)
  private let calls = Mutex(Calls())
  private let storedMark = Mutex<EpollMark?>(nil)

  init(
    _ file: any OpenFile, owner: ClientIdentity, pending: PendingFile? = nil,
    charge: ChargedShares.Charge? = nil
  ) {
    self.charge = charge
    self.file = file
    self.owner = owner
    self.pending = pending
  }

  /// The calls on the file that have not ended. The kernel sends the release after the answers to
  /// all calls, some of which may go on (``CUSERequest/abandon()``).
  private struct Calls {
    var running = 0
    var isClosed = false
  }

  func beginCall() { calls.withLock { $0.running += 1 } }

  /// - Returns: whether the file must be released now: it is closed, and this was the last call.
  func endCall() -> Bool {
    calls.withLock { calls in
      calls.running -= 1
      return calls.isClosed && calls.running == 0
    }
  }

  /// Records the last close.
  /// - Returns: whether the file must be released now. Otherwise the last call that ends must
  ///   release it.
  func close() -> Bool {
    calls.withLock { calls in
      calls.isClosed = true
      return calls.running == 0
    }
  }

  /// Starts to notify poll(2) of changes. Called when the file is opened: a change between two
  /// calls of poll must wake the second.
  func observeReadiness() {
    file.setReadinessObserver { [poll] in poll.notify() }
  }

  /// Releases the file, to which the kernel has no reference left.
  func release() {
    mark = nil
    file.setReadinessObserver(nil)
    poll.discard()
    if let pending { pending.handleLastClose() } else { file.release() }
  }

  /// The mark by which ``DescriptorLookup`` recognises this file. `nil` until a second lookup of
  /// the file.
  var mark: EpollMark? {
    get { storedMark.withLock { $0 } }
    set { storedMark.withLock { $0 = newValue } }
  }

  /// False when the device has withdrawn the file while another thread of the client kept a
  /// descriptor of it.
  var isUsable: Bool { pending?.isWithdrawn != true }

  /// True for the first call only, so that a denied access is logged once per open file.
  func shouldReportDenial() -> Bool {
    hasReportedDenial.exchange(true, ordering: .relaxed) == false
  }
}

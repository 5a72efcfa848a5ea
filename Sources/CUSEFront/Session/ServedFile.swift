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
  /// all calls, but a call ends shortly after its answer, or much later
  /// (``CUSERequest/abandon()``).
  private struct Calls {
    var running = 0
    /// Releases the file after the last close. `nil` while the file is open.
    var release: (@Sendable () -> Void)?
  }

  func beginCall() { calls.withLock { $0.running += 1 } }

  /// Ends a call. The last one runs the release of a closed file.
  func endCall() {
    let release = calls.withLock { calls in
      calls.running -= 1
      return calls.running == 0 ? calls.release : nil
    }
    release?()
  }

  /// Records the last close.
  /// - Parameter release: releases the file. The last call that ends runs it.
  /// - Returns: whether no call is left, so that the caller must run `release`.
  func close(_ release: @escaping @Sendable () -> Void) -> Bool {
    calls.withLock { calls in
      if calls.running > 0 { calls.release = release }
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

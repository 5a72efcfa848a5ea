// SPDX-License-Identifier: Apache-2.0

internal import FrontEnd
internal import Host
internal import SystemPackage
internal import UAPI

/// The thread that waits for the answer to a trapped call, as a device sees it.
final class LauncherClient: Client {
  let task: HostTask
  /// The ID of the call.
  let call: UInt64
  private let listener: SeccompListener
  private let files: OpenFileTable
  private let queueNumbers: QueueNumbers
  private let spaces: ClientAddressSpaces
  private let threads: CallerThreads
  private let grants: GrantedCapabilities
  /// The thread in the cache. `nil` when it has not made a call before.
  private var thread: CallerThread?
  private var isFirstRead = true
  /// The address space, once it was found during this call. It stays the same until the answer: an
  /// exec of another thread first kills the waiting thread.
  private var space: AddressSpace?

  init(
    _ call: TrappedCall, listener: SeccompListener, files: OpenFileTable,
    queueNumbers: QueueNumbers,
    spaces: ClientAddressSpaces, threads: CallerThreads, grants: GrantedCapabilities
  ) {
    task = call.task
    self.call = call.id
    self.listener = listener
    self.files = files
    self.queueNumbers = queueNumbers
    self.spaces = spaces
    self.threads = threads
    self.grants = grants
    thread = threads.thread(of: call)
  }

  /// Whether the thread was in the cache of caller threads.
  var isCached: Bool { thread != nil }

  func isCapable(of capability: Capability) -> Bool {
    grants.isCapable(task, of: capability)

// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import FrontEnd
internal import Glibc
internal import Host
internal import Logging
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// One node: its connection, the threads that read the connection, and its open files.
///
/// A thread is added whenever the last thread that waited for a message receives one. A thread ends
/// when it has processed its message and finds enough others waiting.
final class CUSESession: Sendable {
  /// The path of the node.
  let node: String
  let resources: SharedResources
  let device: any CharacterDevice
  /// Called once, when the kernel has ended the connection.
  private let ended: @Sendable (CUSESession) -> Void

  private struct State {
    var threads = 0
    /// Threads that wait for a message.
    var idle = 0
    var hasEnded = false
    var lastHandle: UInt64 = 0
    var files: [UInt64: ServedFile] = [:]
  }
  private let state = Mutex(State())

  /// More threads than the `CallLimiter` admits calls, so that messages that never wait always find
  /// a thread.
  private static let threadLimit = SharedResources.callLimit + 64
  private static let idleLimit = 4

  init(
    _ device: any CharacterDevice, node: String, resources: SharedResources,
    ended: @escaping @Sendable (CUSESession) -> Void
  ) {
    self.device = device
    self.node = node
    self.resources = resources
    self.ended = ended
  }

  var hasEnded: Bool { state.withLock { $0.hasEnded } }
  var threadCount: Int { state.withLock { $0.threads } }
  var fileCount: Int { state.withLock { $0.files.count } }

  // MARK: Connection and threads

  /// Connects to /dev/cuse and starts to read messages. The kernel makes the node, or ends the
  /// connection, later: see ``CUSEServer/start()``.
  /// - Parameter number: major and minor; 0 and 0 let the kernel choose.
  func connect(number: (major: UInt32, minor: UInt32)) throws(Errno) {
    let connection = try CUSEConnection(
      node: node, number: number, operations: cuseOperations,
      userData: Unmanaged.passUnretained(self).toOpaque())
    guard startReader(of: connection) else { throw .resourceTemporarilyUnavailable }
  }

  private func startReader(of connection: CUSEConnection) -> Bool {
    state.withLock { state in
      state.threads += 1
      state.idle += 1
    }
    let name = node.split(separator: "/").last.map(String.init) ?? node
    if startThread(named: name, { self.readMessages(of: connection) }) { return true }
    state.withLock { state in
      state.threads -= 1
      state.idle -= 1
    }
    return false
  }

  private func readMessages(of connection: CUSEConnection) {
    var buffer = fuse_buf()
    defer { free(buffer.mem) }
    while connection.receive(into: &buffer) {
      let isLast = state.withLock { state in
        state.idle -= 1
        return state.idle == 0 && state.threads < Self.threadLimit && !state.hasEnded
      }
      if isLast { _ = startReader(of: connection) }
      connection.process(&buffer)
      let stays = state.withLock { state in
        guard state.idle < Self.idleLimit else {
          state.threads -= 1
          return false
        }
        state.idle += 1
        return true
      }
      if !stays { return }
    }
    let isFirst = state.withLock { state in
      state.threads -= 1
      state.idle -= 1
      defer { state.hasEnded = true }
      return !state.hasEnded
    }
    if isFirst { ended(self) }
  }

  // MARK: Open files

  private func insert(_ file: ServedFile) -> UInt64 {
    state.withLock { state in
      state.lastHandle += 1
      state.files[state.lastHandle] = file
      return state.lastHandle
    }
  }

  private func remove(_ handle: UInt64) -> ServedFile? {
    state.withLock { $0.files.removeValue(forKey: handle) }
  }

  /// Returns the open file that a message names. `nil` for a file whose installation the device has
  /// withdrawn.
  func file(_ handle: UInt64) -> ServedFile? {
    guard let file = state.withLock({ $0.files[handle] }), file.isUsable else { return nil }
    return file
  }

  // MARK: Messages

  func open(_ request: CUSERequest) {
    let thread = request.taskID
    guard thread != 0 else {
      // Without an id the server can never reach the caller's memory and descriptors.
      resources.log.warning(
        "\(node): open refused: the caller is outside this server's pid namespace")
      request.fail(.notPermitted)
      return
    }
    let task = request.task
    let owner = ClientIdentity(
      user: request.userID, process: (try? task.processID()) ?? thread)
    if let pending = resources.expectedOpens.claimFile(openedBy: thread) {
      reply(to: request, opened: ServedFile(pending.file, owner: owner, pending: pending))
      return
    }
    request.watch(for: owner)
    resources.limiter.run(for: owner) { [self] in
      defer { if request.isAbandoned { resources.callers.abandonedCallEnded(of: owner) } }
      do throws(Errno) {
        let charge = try ChargedShares.openFiles.charge(owner)
        let file = try device.open(
          by: CUSEClient(task, owner, memory: CallerMemory(task: task), resources: resources))
        reply(to: request, opened: ServedFile(file, owner: owner, charge: charge))
      } catch {
        request.fail(error)
      }
    }
  }

  private func reply(to request: CUSERequest, opened file: ServedFile) {
    file.observeReadiness()
    let handle = insert(file)
    if !request.reply(opened: handle) { remove(handle)?.release() }
  }

  /// Releases an open file after the last call on it, and answers `request`.
  func release(_ handle: UInt64, answering request: CUSERequest) {
    guard let file = remove(handle) else { return request.succeed() }
    resources.callers.releaseBegins(request, of: file.owner)
    let release = { @Sendable [resources] in
      file.release()
      resources.pinning?.leaveIfEnding(process: file.owner.process)
      resources.callers.releaseEnded(request)
    }
    if file.close(release) { resources.limiter.run(for: file.owner, release) }
  }

  /// Runs `call` on `file`, unless its caller is killed before it begins.
  private func run(
    _ request: CUSERequest, on file: ServedFile, _ call: @escaping CallLimiter.Body
  ) {
    file.beginCall()
    request.watch(for: file.owner)
    resources.limiter.run(for: file.owner) { [resources] in
      if !request.isAbandoned { call() }
      file.endCall()
      if request.isAbandoned { resources.callers.abandonedCallEnded(of: file.owner) }
    }
  }

  func ioctl(_ exchange: IoctlExchange, on file: ServedFile) {
    if exchange.number == DescriptorLookup.request,
      resources.lookup.answer(file, to: exchange.task.id)
    {
      exchange.request.reply(ioctl: 0)
      return
    }
    guard exchange.task.id != 0 else {
      exchange.request.fail(.notPermitted)
      return
    }
    do throws(Errno) {
      try file.file.checkIoctl(isCompat: exchange.isCompat)
    } catch {
      exchange.request.fail(error)
      return
    }
    run(exchange.request, on: file) { [self] in exchange.run(on: file, of: self) }
  }

  /// - Parameter start: the bytes of the call that earlier messages were about.
  func read(_ request: CUSERequest, _ count: Int, after start: Int, from file: ServedFile) {
    let message = TransferMessage(
      .read, of: file, by: request.task, start: start, count: count)
    run(request, on: file) { [self] in
      let memory = BufferMemory(count: count)
      do throws(Errno) {
        let result = try message.perform(through: memory, on: self)
        try memory.withBytes { (bytes) throws(Errno) in
          let done = min(max(result.count, 0), count)
          let bytes = UnsafeMutableRawBufferPointer(rebasing: bytes[..<done])
          try result.split?.gather(after: start, into: bytes, from: message.callerMemory)
          request.reply(read: UnsafeRawBufferPointer(bytes))
        }
      } catch {
        request.fail(error)
      }
    }
  }

  /// - Parameter start: the bytes of the call that earlier messages were about.
  func write(
    _ request: CUSERequest, _ data: UnsafeRawBufferPointer, after start: Int, to file: ServedFile
  ) {
    let message = TransferMessage(
      .write, of: file, by: request.task, start: start, count: data.count)
    // Copied now, because `data` is valid only until this function returns.
    let memory = UncheckedSendable(BufferMemory(copying: data))
    run(request, on: file) { [self] in
      do throws(Errno) {
        let result = try message.perform(through: memory.value, on: self)
        request.reply(written: result.count)
      } catch {
        request.fail(error)
      }
    }
  }

  func poll(_ request: CUSERequest, _ handle: OpaquePointer?, of file: ServedFile) {
    file.poll.store(handle)
    let readiness = file.file.readiness()
    request.reply(events: file.file.hasPoll ? readiness.queueEvents : readiness.events)
  }
}

extension Readiness {
  /// iommufd: iommufd_fault_fops_poll(), iommufd_eventq_fops_poll()
  fileprivate var queueEvents: UInt32 { events & ~UInt32(POLLWRNORM) }

  /// A file whose operations have no poll() is always ready, with DEFAULT_POLLMASK.
  fileprivate var events: UInt32 {
    var events: Int32 = 0
    if contains(.readable) { events |= POLLIN | POLLRDNORM }
    if contains(.writable) { events |= POLLOUT | POLLWRNORM }
    return UInt32(events)
  }
}

/// A value that one thread makes and one other thread uses afterwards.
private struct UncheckedSendable<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}

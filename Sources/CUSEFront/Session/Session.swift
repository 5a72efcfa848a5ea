// One node: the connection that made it, the threads that read the connection, its open files.
//
// The connection is libfuse's; reading it is not: a thread is added whenever the last one that
// waited for a message has got one, and threads beyond a few leave when they find others idle.

internal import CFuse3
internal import FrontEnd
internal import Glibc
internal import Host
internal import Logging
internal import Synchronization
internal import SystemPackage
internal import UAPI

final class Session: Sendable {
  /// The node's path.
  let node: String
  let services: Services
  let device: any CharacterDevice
  private let ended: @Sendable (Session) -> Void

  private struct State {
    var threads = 0
    var idle = 0
    var hasEnded = false
    var lastHandle: UInt64 = 0
    var files: [UInt64: ServedFile] = [:]
  }
  private let state = Mutex(State())
  // Written once, before the first thread starts.
  nonisolated(unsafe) private var connection: OpaquePointer?

  /// More than the gate admits, so that messages that never wait always find a thread.
  private static let threadLimit = 64 + 64
  private static let idleLimit = 4

  init(
    _ device: any CharacterDevice, node: String, services: Services,
    ended: @escaping @Sendable (Session) -> Void
  ) {
    self.device = device
    self.node = node
    self.services = services
    self.ended = ended
  }

  var hasEnded: Bool { state.withLock { $0.hasEnded } }
  var threadCount: Int { state.withLock { $0.threads } }
  var fileCount: Int { state.withLock { $0.files.count } }

  // MARK: Connection and threads

  /// Connects to /dev/cuse and begins to serve. The kernel makes the node, or ends the connection,
  /// later: see ``CUSEServer/start()``.
  /// - Parameter number: major and minor; 0 and 0 let the kernel choose.
  func connect(number: (major: UInt32, minor: UInt32)) throws(Errno) {
    let channel = try Self.openChannel()
    guard let connection = newConnection(number) else {
      Glibc.close(channel)
      throw .noMemory
    }
    // libfuse's way to be given an open channel. It owns it from here on.
    guard fuse_session_mount(connection, "/dev/fd/\(channel)") == 0 else {
      fuse_session_destroy(connection)
      Glibc.close(channel)
      throw .invalidArgument
    }
    self.connection = connection
    guard startReader() else { throw .resourceTemporarilyUnavailable }
  }

  /// A connection, with a higher number than any descriptor that comes later.
  ///
  /// A process that ends closes its descriptors from the highest down. A copy of a client's
  /// descriptor waits for an answer when it is closed, which comes at once when the connection is
  /// gone already, and never while the process still holds it.
  private static func openChannel() throws(Errno) -> Int32 {
    let low = Glibc.open("/dev/cuse", O_RDWR | O_CLOEXEC)
    guard low >= 0 else { throw Errno(rawValue: errno) }
    let top = Int32(clamping: DescriptorLimit.soft) - ServerProcess.nodeLimit
    let high = fcntl(low, F_DUPFD_CLOEXEC, max(low, top))
    guard high >= 0 else { return low }
    Glibc.close(low)
    return high
  }

  private func newConnection(_ number: (major: UInt32, minor: UInt32)) -> OpaquePointer? {
    // The kernel turns '!' in a device's name into '/' in its node's.
    let name = node.dropFirst("/dev/".count).split(separator: "/").joined(separator: "!")
    var operations = cuse_lowlevel_ops()
    operations.open = cuseOpen
    operations.read = cuseRead
    operations.write = cuseWrite
    operations.release = cuseRelease
    operations.ioctl = cuseIoctl
    operations.poll = cusePoll
    let program = strdup("iommufd-sim")
    defer { free(program) }
    var arguments: [UnsafeMutablePointer<CChar>?] = [program, nil]
    return arguments.withUnsafeMutableBufferPointer { vector in
      "DEVNAME=\(name)".withCString { name in
        var information: [UnsafePointer<CChar>?] = [name]
        return information.withUnsafeMutableBufferPointer { lines in
          var fuseArguments = fuse_args(argc: 1, argv: vector.baseAddress, allocated: 0)
          var info = cuse_info()
          info.dev_major = number.major
          info.dev_minor = number.minor
          info.dev_info_argc = 1
          info.dev_info_argv = lines.baseAddress
          info.flags = UInt32(CUSE_UNRESTRICTED_IOCTL)
          return cuse_lowlevel_new(
            &fuseArguments, &info, &operations, Unmanaged.passUnretained(self).toOpaque())
        }
      }
    }
  }

  private func startReader() -> Bool {
    state.withLock { state in
      state.threads += 1
      state.idle += 1
    }
    if startThread(named: node.split(separator: "/").last.map(String.init) ?? node, readMessages) {
      return true
    }
    state.withLock { state in
      state.threads -= 1
      state.idle -= 1
    }
    return false
  }

  private func readMessages() {
    var buffer = fuse_buf()
    defer { free(buffer.mem) }
    while true {
      let count = fuse_session_receive_buf(connection, &buffer)
      if count == -EINTR || count == -EAGAIN { continue }
      guard count > 0 else { break }
      let isLast = state.withLock { state in
        state.idle -= 1
        return state.idle == 0 && state.threads < Self.threadLimit && !state.hasEnded
      }
      if isLast { _ = startReader() }
      fuse_session_process_buf(connection, &buffer)
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

  /// The file a message is about; nil for one that the device took back.
  fileprivate func file(_ handle: UInt64) -> ServedFile? {
    guard let file = state.withLock({ $0.files[handle] }), file.isUsable else { return nil }
    return file
  }
}

// MARK: - Messages

extension Session {
  fileprivate func open(_ request: Request) {
    let thread = request.taskID
    guard thread != 0 else {
      // No id: the caller's memory and descriptors cannot be reached, ever.
      services.log.warning(
        "\(node): open refused: the caller is outside this server's pid namespace")
      request.fail(.notPermitted)
      return
    }
    let task = HostTask(id: thread)
    let owner = (try? task.processID()) ?? thread
    if let pending = services.handover.take(by: thread) {
      opened(ServedFile(pending.file, owner: owner, handover: pending), request)
      return
    }
    services.gate.run(for: owner) { [self] in
      do throws(Errno) {
        let file = try device.open(
          by: CUSEClient(task, memory: CallerMemory(task: task), services: services))
        opened(ServedFile(file, owner: owner), request)
      } catch {
        request.fail(error)
      }
    }
  }

  private func opened(_ file: ServedFile, _ request: Request) {
    file.watch()
    let handle = insert(file)
    if !request.opened(as: handle) { release(handle) }
  }

  fileprivate func release(_ handle: UInt64) {
    remove(handle)?.release()
  }

  fileprivate func ioctl(_ exchange: IoctlExchange, on file: ServedFile) {
    if exchange.number == Identification.request,
      services.identification.answer(file, to: exchange.task.id)
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
    services.gate.run(for: file.owner) { [self] in exchange.run(on: file, of: self) }
  }
}

// MARK: - libfuse's callbacks

private func cuseOpen(_ raw: fuse_req_t?, _ info: UnsafeMutablePointer<fuse_file_info>?) {
  guard let raw else { return }
  let request = Request(raw)
  request.session.open(request)
}

private func cuseRelease(_ raw: fuse_req_t?, _ info: UnsafeMutablePointer<fuse_file_info>?) {
  guard let raw, let info else { return }
  let request = Request(raw)
  request.session.release(info.pointee.fh)
  request.succeed()
}

private func cuseRead(
  _ raw: fuse_req_t?, _ count: Int, _ offset: off_t,
  _ info: UnsafeMutablePointer<fuse_file_info>?
) {
  guard let raw, let info else { return }
  let request = Request(raw)
  guard let file = request.session.file(info.pointee.fh) else { return request.fail(.ioError) }
  request.session.read(request, count, after: Int(offset), from: file)
}

private func cuseWrite(
  _ raw: fuse_req_t?, _ data: UnsafePointer<CChar>?, _ count: Int, _ offset: off_t,
  _ info: UnsafeMutablePointer<fuse_file_info>?
) {
  guard let raw, let info else { return }
  let request = Request(raw)
  guard let file = request.session.file(info.pointee.fh) else { return request.fail(.ioError) }
  request.session.write(
    request, UnsafeRawBufferPointer(start: data, count: count), after: Int(offset), to: file)
}

private func cuseIoctl(
  _ raw: fuse_req_t?, _ command: Int32, _ argument: UnsafeMutableRawPointer?,
  _ info: UnsafeMutablePointer<fuse_file_info>?, _ flags: UInt32,
  _ input: UnsafeRawPointer?, _ inputCount: Int, _ room: Int
) {
  guard let raw, let info else { return }
  let request = Request(raw)
  guard let file = request.session.file(info.pointee.fh) else { return request.fail(.ioError) }
  request.session.ioctl(
    IoctlExchange(
      request: request, task: HostTask(id: request.taskID), number: UInt32(bitPattern: command),
      argument: UInt64(UInt(bitPattern: argument)), isCompat: Request.isCompat(flags),
      round: FetchRound(
        received: UnsafeRawBufferPointer(start: input, count: inputCount), room: room)),
    on: file)
}

private func cusePoll(
  _ raw: fuse_req_t?, _ info: UnsafeMutablePointer<fuse_file_info>?, _ handle: OpaquePointer?
) {
  guard let raw, let info else { return }
  let request = Request(raw)
  guard let file = request.session.file(info.pointee.fh) else {
    if let handle { fuse_pollhandle_destroy(handle) }
    return request.fail(.ioError)
  }
  file.poll.keep(handle)
  request.reply(events: file.file.readiness().events)
}

extension Readiness {
  fileprivate var events: UInt32 {
    var events: Int32 = 0
    if contains(.readable) { events |= POLLIN | POLLRDNORM }
    if contains(.writable) { events |= POLLOUT | POLLWRNORM }
    return UInt32(events)
  }
}

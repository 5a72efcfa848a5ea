// Answers trapped calls. Each worker thread takes a call, answers it and takes the next; a call on
// something that is none of ours goes on natively.

internal import Glibc
internal import Host
internal import Logging
internal import Synchronization
internal import SystemPackage
internal import UAPI

final class Supervisor: Sendable {
  let files: OpenFiles
  let paths: DevicePaths
  let trace: CallTrace?
  private let virtualFiles: VirtualFiles?
  private let listener: Listener
  private let queueNumbers = QueueNumbers()
  private let spaces = AddressSpaces()
  private let threads: KnownThreads
  private let capabilitiesOfRoot: Set<Capability>
  private let processEnds: (@Sendable (AddressSpace) -> Void)?
  private let crew = WorkerPool(limit: 16)
  private let answered = Atomic<Int>(0)
  private let passedOn = Atomic<Int>(0)

  init(
    listener: Listener, nodes: [DeviceNode], virtualFiles: VirtualFiles?, options: LauncherOptions
  ) throws(Errno) {
    self.virtualFiles = virtualFiles
    self.listener = listener
    trace = options.trace
    processEnds = options.processEnds
    let ours = HostTask(id: getpid())
    capabilitiesOfRoot = options.capabilitiesOfRoot.filter { !ours.isCapable(of: $0) }
    files = try OpenFiles()
    threads = try KnownThreads()
    paths = DevicePaths(nodes)
  }

  func start() {
    crew.start { [self] in startThread(named: "supervisor") { self.work() } }
    startThread(named: "closes") { [self] in files.watchForever() }
    startThread(named: "threads") { [self] in threads.watchForever() }
  }

  var counts: LauncherCounts {
    let open = files.counts
    return LauncherCounts(
      opened: open.opened, stillOpen: open.open, answered: answered.load(ordering: .relaxed),
      passedOn: passedOn.load(ordering: .relaxed), workers: crew.total)
  }

  private func work() {
    // When this worker sent its last answer.
    var answered = 0
    repeat {
      switch listener.receive() {
      case .ended: return crew.end()
      case .gone: crew.take(atOnce: false)
      case .call(let call):
        crew.take(atOnce: Self.now() - answered < Self.fastestNextCall)
        let answer = serve(call)
        answered = Self.now()
        listener.send(answer, to: call.id)
      }
    } while crew.wait()
  }

  /// Nanoseconds in which no program gets an answer and makes its next call: a call that is here sooner
  /// was made by another thread, before.
  private static let fastestNextCall = 3000

  private static func now() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec * 1_000_000_000 + time.tv_nsec
  }

  private func serve(_ call: TrappedCall) -> Answer {
    let entry = trace == nil ? nil : traceEntry(for: call)
    let answer = answer(call)
    if case .native = answer {
      passedOn.wrappingAdd(1, ordering: .relaxed)
    } else {
      answered.wrappingAdd(1, ordering: .relaxed)
      // Before the program goes on, so that its own output comes after the line.
      if let trace, let entry { trace.record(entry, answer) }
    }
    return answer
  }

  /// A call with the path that it is about, or with the node behind its descriptor when that is ours.
  private func traceEntry(for call: TrappedCall) -> CallTrace.Entry {
    let memory = client(of: call)
    if let request = OpenRequest(call, memory: memory) {
      return CallTrace.Entry(call, subject: request.path, ioctls: nil, memory: memory)
    }
    guard let entry = try? files.begin(call.descriptor(0), of: call.task) else {
      return CallTrace.Entry(call, subject: nil, ioctls: nil, memory: memory)
    }
    defer { files.end(entry) }
    return CallTrace.Entry(
      call, subject: entry.node?.paths[0] ?? "queue", ioctls: entry.file.ioctls, memory: memory)
  }

  private func answer(_ call: TrappedCall) -> Answer {
    do {
      return switch call.operation {
      case .open, .openat, .openat2: try open(call)
      case .access, .faccessat, .faccessat2: access(call)
      case .execve, .execveat, .exit, .exitGroup: processLeaves(call)
      case .fcntl: try statusFlags(call)
      case .fstat, .fstatat, .lstat, .stat, .statx: try status(call)
      case .ioctl: try ioctl(call)
      case .lseek: try seek(call)
      case .mmap: try map(call)
      case .pread, .preadv, .preadv2, .pwrite, .pwritev, .pwritev2: try transferAtOffset(call)
      case .read, .readv, .write, .writev: try transferOfQueue(call)
      }
    } catch {
      return .failure(error)
    }
  }

  func client(of call: TrappedCall) -> LauncherClient {
    LauncherClient(
      call, listener: listener, files: files, queueNumbers: queueNumbers, spaces: spaces,
      threads: threads, capabilitiesOfRoot: capabilitiesOfRoot)
  }

  /// Answers with what `body` makes of the open file behind argument 0.
  func withEntry(
    for call: TrappedCall, _ body: (OpenEntry, LauncherClient) throws(Errno) -> Answer
  ) throws(Errno) -> Answer {
    let client = client(of: call)
    // What is none of ours, or no descriptor: the kernel has the right answer.
    guard let entry = try? client.begin(call.descriptor(0)) else { return .native }
    defer {
      files.end(entry)
      files.deliverWakeups()
    }
    // Everything is to be seen that happened before this call.
    files.settle()
    if !client.isKnown { threads.learn(call) { listener.isWaiting(call.id) } }
    return try body(entry, client)
  }

  private func ioctl(_ call: TrappedCall) throws(Errno) -> Answer {
    if call.word(1) == KVMDevice.setAttribute { return setKVMAttribute(call) }
    return try withEntry(for: call) { (entry, client) throws(Errno) in
      // fs: compat_sys_ioctl()
      if call.architecture == .i386, !entry.file.hasCompatIoctl {
        throw .inappropriateIOCTLForDevice
      }
      let result = try injecting(into: call) { () throws(Errno) in
        try entry.file.ioctl(call.word(1), argument: call[2], client: client)
      }
      return .value(Int64(result))
    }
  }

  private func processLeaves(_ call: TrappedCall) -> Answer {
    if let space = spaces.spaceLeft(by: call.task, call.operation), listener.isWaiting(call.id) {
      processEnds?(space)
    }
    return .native
  }

  // MARK: Opening

  private func open(_ call: TrappedCall) throws(Errno) -> Answer {
    let client = client(of: call)
    guard let request = OpenRequest(call, memory: client) else { return .native }
    let flags = Int32(truncatingIfNeeded: request.flags)
    // What a program has closed is not to be seen in a status any more.
    if virtualFiles != nil { files.settle() }
    if let virtualFiles,
      let opened = try virtualFiles.open(request.path, flags: flags, by: call.task)
    {
      return try give(opened, to: client, closeOnExec: flags & O_CLOEXEC != 0)
    }
    guard flags & Self.pathOnly == 0,
      case .node(let node) = paths.target(
        of: request.path, from: request.directory, in: call.task)
    else { return .native }
    if flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL { throw .fileExists }
    if flags & O_DIRECTORY != 0 { throw .notDirectory }
    files.settle()
    let file = try injecting(into: call) { () throws(Errno) in try node.device.open(by: client) }
    let carrier = try files.adopt(file, of: node)
    _ = fcntl(carrier.rawValue, F_SETFL, flags & O_NONBLOCK)
    // Answered only when our copy is closed: else the program's close() might not be the last one.
    // That is why the descriptor is not sent with the answer (SECCOMP_ADDFD_FLAG_SEND).
    return .value(
      Int64(
        try listener.install(carrier, for: call.id, closeOnExec: flags & O_CLOEXEC != 0)))
  }

  private func give(
    _ opened: VirtualFiles.Opened, to client: LauncherClient, closeOnExec: Bool
  ) throws(Errno) -> Answer {
    switch opened {
    case .plain(let descriptor):
      return .value(
        Int64(try listener.install(descriptor, for: client.call, closeOnExec: closeOnExec)))
    case .served(let file, let path):
      let process = try client.task.processID()
      let number = try queueNumbers.reserve(in: client.task, of: process)
      defer { queueNumbers.unreserve(number, of: process) }
      try listener.install(
        try files.adopt(file, path: path), as: number, for: client.call, closeOnExec: closeOnExec)
      return .value(Int64(number))
    }
  }

  /// Runs a call of a device with the failure that the calling task has asked for, if any.
  func injecting<Result>(
    into call: TrappedCall, _ body: () throws(Errno) -> Result
  ) throws(Errno) -> Result {
    guard let countdowns = virtualFiles?.countdowns else { return try body() }
    return try countdowns.inject(into: call.task, body)
  }

  /// O_PATH
  private static let pathOnly: Int32 = 0o10000000

  private func access(_ call: TrappedCall) -> Answer {
    let named = call.operation != .access
    let directory = named ? call.descriptor(0) : AT_FDCWD
    guard let path = ProgramString.read(at: call[named ? 1 : 0], from: client(of: call)),
      let target = paths.target(of: path, from: directory, in: call.task)
    else { return .native }
    let mode = Int32(bitPattern: call.word(named ? 2 : 1))
    switch target {
    case .node: return mode & X_OK != 0 ? .failure(.permissionDenied) : .value(0)
    // A directory that exists natively says who may do what.
    case .directory: return mode & W_OK != 0 ? .failure(.permissionDenied) : .value(0)
    }
  }
}

/// What a program wants opened.
private struct OpenRequest {
  let path: String
  let directory: Int32
  let flags: UInt64

  /// Nil when the arguments cannot be read: the kernel has the right errno.
  init?(_ call: TrappedCall, memory: some UserMemory) {
    let pathArgument: UInt64
    switch call.operation {
    case .open:
      directory = AT_FDCWD
      pathArgument = call[0]
      flags = call[1]
    case .openat2:
      directory = call.descriptor(0)
      pathArgument = call[1]
      // struct open_how begins with the flags.
      guard let value = try? memory.load(UInt64.self, at: call[2]) else { return nil }
      flags = value
    case .openat:
      directory = call.descriptor(0)
      pathArgument = call[1]
      flags = call[2]
    default:
      return nil
    }
    guard let path = ProgramString.read(at: pathArgument, from: memory) else { return nil }
    self.path = path
  }
}

/// A C string in a program's memory.
enum ProgramString {
  /// The path name at `address`; nil when it cannot be read or is longer than PATH_MAX, for which
  /// the kernel has the right errno.
  static func read(at address: UInt64, from memory: some UserMemory) -> String? {
    let (limit, step) = (Int(PATH_MAX), 256)
    return withUnsafeTemporaryAllocation(byteCount: limit, alignment: 1) { buffer in
      var count = 0
      while count < limit {
        let (next, overflow) = address.addingReportingOverflow(UInt64(count))
        if overflow { return nil }
        // Never across a page boundary: the string may end just before an unmapped page.
        let piece = min(step, 4096 - Int(next % 4096), limit - count)
        let chunk = UnsafeMutableRawBufferPointer(rebasing: buffer[count..<count + piece])
        do { try memory.copyIn(from: next, into: chunk) } catch { return nil }
        if let end = chunk.firstIndex(of: 0) {
          return String(decoding: buffer[..<(count + end)], as: UTF8.self)
        }
        count += piece
      }
      return nil
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

// Answers trapped calls. Each worker thread receives a call, answers it and receives the next one.
// The kernel executes calls on files that are not of this server.

internal import FrontEnd
internal import Glibc
internal import Host
internal import Logging
internal import Synchronization
internal import SystemPackage
internal import UAPI

final class Supervisor: Sendable {
  let files: OpenFileTable
  let tree: VirtualTree
  private let rootsMayDiffer = Atomic(false)
  private let trace: CallTrace?
  let virtualFiles: VirtualFiles?
  let listener: SeccompListener
  let nodeLocks = NodeLocks()
  private let spaces = ClientAddressSpaces()
  private let threads: CallerThreads
  private let grants: GrantedCapabilities
  private let processEnds: (@Sendable (AddressSpace) -> Void)?
  private let pinning: LauncherPinning?
  private let workers = WorkerPool<TrappedCall>(limit: 512)
  private let answeredCalls = Atomic<Int>(0)
  private let nativeCalls = Atomic<Int>(0)

  init(
    listener: SeccompListener, nodes: [DeviceNode], virtualFiles: VirtualFiles?,
    options: LauncherOptions
  ) throws(Errno) {
    self.virtualFiles = virtualFiles
    self.listener = listener
    trace = options.trace
    processEnds = options.processEnds
    pinning = options.pinsExactly ? try LauncherPinning() : nil
    grants = GrantedCapabilities(options.grants)
    files = try OpenFileTable()
    threads = try CallerThreads()
    tree = VirtualTree(nodes)
    if virtualFiles != nil { for name in VirtualFiles.names { tree.addName(name) } }
  }

  /// Starts the threads.
  /// - Throws: `.resourceTemporarilyUnavailable` when the host cannot create them.
  func start() throws(Errno) {
    let isStarted =
      workers.start { [self] in startThread(named: "supervisor") { self.work() } }
      && files.startProcessingEvents()
      && startThread(named: "thread-exit") { [self] in threads.removeEndedForever() }
    guard isStarted else { throw .resourceTemporarilyUnavailable }
  }

  /// Releases the files whose last close has happened, and returns what the launcher has done.
  func finish() -> LauncherCounts {
    // A worker may still serve a call whose thread was killed. The call holds its file.
    for _ in 0..<Self.releaseAttempts where files.counts.open > 0 {
      files.processPendingEvents()
      files.awaitReleases()
      if files.counts.open > 0 { usleep(1_000) }
    }
    let open = files.counts
    return LauncherCounts(
      opened: open.opened, stillOpen: open.open, answered: answeredCalls.load(ordering: .relaxed),
      passedOn: nativeCalls.load(ordering: .relaxed), workers: workers.total)
  }

  private static let releaseAttempts = 200

  /// Releases the files whose last close has happened before a call of `client`.
  func processCloses(before client: LauncherClient) {
    pinning?.awaitEnds()
    files.processPendingEvents { client.process }
  }

  private func work() {
    // The time of this worker's last answer.
    var answerTime = 0
    var step = WorkerPool<TrappedCall>.Step.receive
    while true {
      switch step {
      case .receive:
        step = receive(lastAnswerAt: answerTime)
      case .answer(let call, let running):
        let answer = serve(call)
        answerTime = Self.now()
        listener.send(answer, to: call.id)
        step = workers.finish(running)
      case .end: return
      }
    }
  }

  private func receive(lastAnswerAt answerTime: Int) -> WorkerPool<TrappedCall>.Step {
    switch listener.receive() {
    case .filterUnused: workers.stop()
    case .noCall: workers.receiveFailed()
    case .call(let call):
      workers.begin(call, withoutWaiting: Self.now() - answerTime < Self.shortestPause) {
        ClientIdentity(of: call.task)
      }
    }
  }

  /// Nanoseconds. No program gets an answer and makes its next call within this time, so a call
  /// that is received earlier was made by another thread before the answer.
  private static let shortestPause = 3000

  /// Nanoseconds of CLOCK_MONOTONIC.
  private static func now() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec * 1_000_000_000 + time.tv_nsec
  }

  /// Answers a call, counts it and traces it.
  private func serve(_ call: TrappedCall) -> Answer {
    let entry = trace == nil ? nil : traceEntry(for: call)
    let answer = answer(call)
    if case .sent = answer {
      // The program makes the call again, and the call is counted and traced then.
    } else if case .native = answer {
      nativeCalls.wrappingAdd(1, ordering: .relaxed)
    } else {
      answeredCalls.wrappingAdd(1, ordering: .relaxed)
      // The line is written before the answer is sent, so that later output of the program follows
      // it.
      if let trace, let entry { trace.record(entry, answer) }
    }
    return answer
  }

  private func traceEntry(for call: TrappedCall) -> CallTrace.Entry {
    let memory = client(of: call)
    if let request = OpenRequest(call, memory: memory) {
      let path = memory.loadPath(at: request.path)
      return CallTrace.Entry(call, subject: path, ioctls: nil, memory: memory)
    }
    guard let entry = try? files.beginCall(on: call.descriptor(0), of: call.task) else {
      return CallTrace.Entry(call, subject: nil, ioctls: nil, memory: memory)
    }
    defer { files.endCall(on: entry) }
    return CallTrace.Entry(
      call, subject: entry.node?.path ?? "queue", ioctls: entry.file.ioctls, memory: memory)
  }

  private func answer(_ call: TrappedCall) -> Answer {
    do {
      return switch call.systemCall {
      case .creat, .open, .openat, .openat2: try open(call)
      case .access, .faccessat, .faccessat2: try access(call)
      case .clone, .pivotRoot, .setns, .unshare: changeRoot(call)
      case .execve, .execveat, .exit, .exitGroup: try leaveAddressSpace(call)
      case .fcntl: try control(call)
      case .getdents64: try listDirectory(call)
      case .ioSubmit: try submit(call)
      case .ioUringEnter: try enterRing(call)
      case .ioUringRegister: try registerRings(call)
      case .sendfile, .splice, .copyFileRange: try copyBetweenDescriptors(call)
      case .utimensat where call[1] == 0: try useDescriptor(call)
      case .flock: try lock(call)
      case .fstat, .fstatat, .lstat, .stat, .statx: try status(call)
      case .ioctl: try ioctl(call)
      case .lseek, .llseek: try seek(call)
      case .mmap: try map(call)
      case .pread, .preadv, .preadv2, .pwrite, .pwritev, .pwritev2: try transferAtOffset(call)
      case .read, .readv, .write, .writev: try transferOfQueue(call)
      default: try PathUse.calls.contains(call.systemCall) ? usePaths(call) : useDescriptor(call)
      }
    } catch {
      return .failure(error)
    }
  }

  func client(of call: TrappedCall) -> LauncherClient {
    LauncherClient(
      call, listener: listener, files: files, spaces: spaces, threads: threads, grants: grants)
  }

  /// Calls `body` with the open file that argument 0 refers to, and returns its answer. When
  /// argument 0 does not refer to a file of this server, the kernel executes the call.
  func withOpenFile(
    for call: TrappedCall, _ body: (OpenFileEntry, LauncherClient) throws(Errno) -> Answer
  ) throws(Errno) -> Answer {
    let client = client(of: call)
    // A descriptor that is not open now is not open for the kernel, either: when it executed the
    // call, another thread could have opened a device there meanwhile, and its stand-in would
    // answer.
    guard let entry = try client.beginCallIfPermitted(on: call.descriptor(0)) else {
      try refuse(placeHolder: call.descriptor(0), client)
      return .native
    }
    defer {
      files.endCall(on: entry)
      files.deliverWakeups()
    }
    // The call must see all closes that happened before it.
    processCloses(before: client)
    if !client.isCached { threads.add(call) { listener.isWaiting(call.id) } }
    return try body(entry, client)
  }

  /// - Throws: `.badFileDescriptor` for the place-holder of a node, which stands for a descriptor
  ///   that
  ///   was opened with O_PATH.
  func refuse(placeHolder number: Int32, _ client: LauncherClient) throws(Errno) {
    guard let identity = client.identity(of: number),
      case .placeHolder(let entry) = tree.meaning(of: identity), !entry.isDirectory
    else { return }
    throw .badFileDescriptor
  }

  private func ioctl(_ call: TrappedCall) throws(Errno) -> Answer {
    if call.word(1) == KVMDevice.setAttribute { return setKVMAttribute(call) }
    if CommonRequest.isOfAllFiles(call.word(1)) { return .native }
    return try withOpenFile(for: call) { (entry, client) throws(Errno) in
      if CommonRequest.isOfRegularFiles(call.word(1)) { throw .inappropriateIOCTLForDevice }
      try entry.file.checkIoctl(isCompat: call.architecture == .i386)
      if entry.file.pinsMemory(in: call.word(1)),
        pinning?.prepare(client, for: call, listener) == .answered
      {
        return .sent
      }
      let result = try withFaultInjection(for: call) { () throws(Errno) in
        try entry.file.ioctl(call.word(1), argument: call[2], client: client)
      }
      return .value(Int64(result))
    }
  }

  private func leaveAddressSpace(_ call: TrappedCall) throws(Errno) -> Answer {
    if call.systemCall == .execve || call.systemCall == .execveat {
      try refuseExecution(call)
    }
    if let space = spaces.space(freedBy: call.systemCall, of: call.task),
      listener.isWaiting(call.id)
    {
      processEnds?(space)
    }
    return pinning?.leave(by: call, listener) == .answered ? .sent : .native
  }

  /// Runs a call of a device with the fail-nth counter of the calling thread.
  func withFaultInjection<Result>(
    for call: TrappedCall, _ body: () throws(Errno) -> Result
  ) throws(Errno) -> Result {
    guard let failNth = virtualFiles?.failNth else { return try body() }
    return try failNth.withFaultInjection(for: call.task, body)
  }

  /// The test that tells paths of the host from those that may be of this server.
  func candidate(of call: TrappedCall) -> PathCandidate {
    PathCandidate(tree, of: call.task, rootsDiffer: rootsDiffer)
  }

  /// Whether programs may have changed their root directory or mount namespace.
  var rootsDiffer: Bool { rootsMayDiffer.load(ordering: .relaxed) }

  /// The kernel changes the root directory or the mount namespace.
  func changeRoot(_ call: TrappedCall) -> Answer {
    rootsMayDiffer.store(true, ordering: .relaxed)
    return .native
  }
}

/// Requests of ioctl(2) that do_vfs_ioctl() answers.
private enum CommonRequest {
  /// FIOCLEX, FIONCLEX, FIONBIO, FIGETBSZ, which are the same for all files.
  static func isOfAllFiles(_ request: UInt32) -> Bool {
    request == 0x5451 || request == 0x5450 || request == 0x5421 || request == 2
  }

  /// FIOQSIZE, which only regular files, directories and symbolic links have.
  static func isOfRegularFiles(_ request: UInt32) -> Bool { request == 0x5460 }
}

// SPDX-License-Identifier: Apache-2.0

// io_uring_enter(2) with requests for files of this server. The kernel would make them on the
// stand-in files. So the supervisor makes a request itself, and replaces its entry in the program's
// submission queue by one that does nothing and completes with the result (IORING_OP_NOP). Polls
// are made on the stand-ins, which are ready when the files are.
//
// The entries that are pending are found in /proc/<pid>/fdinfo (io_uring_show_fdinfo()), because
// the ring does not tell its layout. A ring whose requests cannot be seen is refused, so that no
// request is made on a stand-in file:
//
//   IORING_SETUP_SQPOLL          mmap(2) of its entries is EPERM, as io_uring_setup(2) of users
//                                without privilege before Linux 5.11
//   IORING_REGISTER_RING_FDS     EINVAL, as before Linux 5.18; IORING_ENTER_REGISTERED_RING, too
//   IORING_SETUP_NO_MMAP         the submission of a request for a file of this server is EINVAL

internal import CLinux
internal import FrontEnd
internal import Glibc
internal import Host
internal import SystemPackage
internal import UAPI

extension Supervisor {
  func enterRing(_ call: TrappedCall) throws(Errno) -> Answer {
    // The number is not that of a descriptor (IORING_ENTER_REGISTERED_RING).
    guard call.word(3) & Self.isRegistered == 0 else { throw .invalidArgument }
    guard files.counts.open > 0, let ring = try self.ring(call.descriptor(0), of: call) else {
      return .native
    }
    let pending = ring.pending.entries.prefix(Int(clamping: call.word(1)))
    guard !pending.isEmpty, listener.isWaiting(call.id) else { return .native }
    let memory = SubmissionMemory(of: ring.file, entries: ring.pending.count)
    var chain = RingChain()
    for entry in pending {
      // The program can change the entries at any time, so each is copied once.
      guard let submission = memory?.load(entry) else {
        let client = client(of: call)
        if let file = client.identity(of: entry.descriptor), files.contains(file) {
          throw .invalidArgument
        }
        chain.add(entry.flags, result: nil)
        continue
      }
      let result = answer(to: submission, ring.pending, chain, call)
      if let result { memory?.answer(entry, with: result) }
      chain.add(submission.flags, result: result)
    }
    return .native
  }

  private static let isRegistered: UInt32 = 1 << 4

  /// Refuses IORING_REGISTER_RING_FDS, which the filter has trapped.
  func registerRings(_ call: TrappedCall) throws(Errno) -> Answer { throw .invalidArgument }

  /// Refuses the mapping of the entries of a ring with IORING_SETUP_SQPOLL.
  func refuse(mappingOfRing number: Int32, at offset: UInt64, _ call: TrappedCall) throws(Errno) {
    guard offset == Self.entriesOffset, let ring = try ring(number, of: call) else { return }
    if ring.pending.hasThread { throw .notPermitted }
  }

  /// IORING_OFF_SQES
  private static let entriesOffset: UInt64 = 0x1000_0000

  /// - Returns: a copy of the ring and what is pending there; `nil` when the descriptor is not that
  ///   of a ring, or may not be copied.
  private func ring(
    _ number: Int32, of call: TrappedCall
  ) throws(Errno) -> (file: OwnedDescriptor, pending: PendingSubmissions)? {
    guard let ring = try? call.task.duplicateDescriptor(number),
      ProcFile.link("/proc/self/fd/\(ring.rawValue)", is: "anon_inode:[io_uring]")
    else { return nil }
    // The file shows nothing while another thread submits (io_uring_show_fdinfo()).
    for _ in 0..<Self.mostAttempts {
      let text = try ProcFile.read("/proc/self/fdinfo/\(ring.rawValue)")
      if let pending = PendingSubmissions(text) { return (ring, pending) }
      usleep(1000)
    }
    throw .resourceTemporarilyUnavailable
  }

  private static let mostAttempts = 100

  /// - Returns: the result of a request for a file of this server; `nil` for others.
  private func answer(
    to submission: CLinux_submission, _ pending: PendingSubmissions, _ chain: RingChain,
    _ call: TrappedCall
  ) -> Int32? {
    guard let kind = RingOperation(rawValue: submission.operation) else { return nil }
    if kind.namesPath {
      return leadsToNode(submission, call) ? -Errno.invalidArgument.rawValue : nil
    }
    let isFixed = submission.flags & Self.fixedFile != 0
    var registered: StandInIdentity?
    if isFixed {
      guard let path = pending.files[UInt32(bitPattern: submission.descriptor)] else { return nil }
      // The path does not say which open file of a device it is.
      if path.hasPrefix("/memfd:/dev/") { return -Errno.badFileDescriptor.rawValue }
      guard let queue = queue(at: path) else { return nil }
      registered = queue
    }
    let client = client(of: call)
    if kind == .splice || kind == .tee,
      let source = client.identity(of: submission.second_descriptor), files.contains(source)
    {
      return -Errno.invalidArgument.rawValue
    }
    let begun =
      if let registered { files.beginCall(on: registered) } else {
        try? client.beginCall(on: submission.descriptor)
      }
    guard let entry = begun, entry.position == nil else { return nil }
    defer {
      files.endCall(on: entry)
      files.deliverWakeups()
    }
    do throws(Errno) {
      // The kernel would make the request after others, but it is made now.
      if chain.hasForeign || submission.flags & Self.drains != 0 { throw .invalidArgument }
      if chain.hasFailed { throw .canceled }
      return try perform(kind, submission, on: entry, client, call)
    } catch {
      return -error.rawValue
    }
  }

  /// Whether an open or a look-up of status through the ring, which the kernel would make of a path
  /// on the host, has a path that leads to a file of this server.
  private func leadsToNode(_ submission: CLinux_submission, _ call: TrappedCall) -> Bool {
    let target = try? target(
      at: submission.address, from: submission.descriptor, followsLast: true, in: call)
    return switch target {
    case .entry, .file, .missing: true
    case .foreign, .host, nil: false
    }
  }

  /// IOSQE_FIXED_FILE, IOSQE_IO_DRAIN and IOSQE_BUFFER_SELECT
  private static let fixedFile: UInt8 = 1
  private static let drains: UInt8 = 1 << 1
  private static let selectsBuffer: UInt8 = 1 << 5

  /// The queue whose stand-in fdinfo shows as `path` for a registered file.
  private func queue(at path: Substring) -> StandInIdentity? {
    guard path.hasPrefix("socket:["), let inode = UInt64(path.dropFirst(8).dropLast()) else {
      return nil
    }
    return files.queue(inode: inode)
  }

  private func perform(
    _ kind: RingOperation, _ submission: CLinux_submission, on entry: OpenFileEntry,
    _ client: LauncherClient, _ call: TrappedCall
  ) throws(Errno) -> Int32 {
    switch kind {
    case .fsync, .splice, .tee, .truncate, .readMultishot, .open, .openHow, .status:
      throw .invalidArgument
    case .syncFileRange: throw .illegalSeek
    case .fallocate: throw .operationNotSupportedByDevice
    case .command, .wideCommand: throw .notSupportedOnSocket
    case .sendMessage, .receiveMessage, .accept, .connect, .send, .receive, .shutdown,
      .sendZeroCopy, .sendMessageZeroCopy, .bind, .listen, .receiveZeroCopy:
      throw .notSocket
    case .read, .readFixed, .readVector, .readFixedVector: break
    case .write, .writeFixed, .writeVector, .writeFixedVector: break
    }
    let direction: TransferDirection = kind.isWrite ? .write : .read
    guard direction == .read ? entry.isReadable : entry.isWritable else {
      throw .badFileDescriptor
    }
    guard submission.flags & Self.selectsBuffer == 0, CLinux_can_answer_submissions(),
      direction.isSupported(by: entry.file)
    else { throw .invalidArgument }
    let isVector = kind.isVector
    let form = TransferCall.Form(
      position: .argument, isVector: isVector, wordSize: call.architecture.wordSize)
    let arguments = [0, submission.address, UInt64(submission.length), submission.offset, 0, 0]
    let transfer = try TransferCall(form) { arguments[$0] }.transfer(in: client)
    let isFixed = submission.flags & Self.fixedFile != 0
    // The kernel waits until the queue is readable, unless the file has O_NONBLOCK (io_read()). A
    // program that gets EAGAIN polls.
    if direction == .read, entry.queue != nil, !transfer.pieces.isEmpty,
      !entry.file.readiness().contains(.readable),
      isFixed || !hasNonBlockingFlag(submission.descriptor, of: call)
    {
      throw .wouldBlock
    }
    // A queue has no position (io_file_get_ppos()).
    let start = entry.node == nil ? 0 : submission.offset
    let done = try transfer.run(in: client) { (buffer, done) throws(Errno) in
      try direction.perform(on: entry.file, buffer, at: start &+ UInt64(done))
    }
    if isFixed {
      entry.queue?.updateReadinessAfterRead(entry.file)
    } else {
      entry.queue?.updateReadiness(
        entry.file, afterReadOf: submission.descriptor, of: call.task)
    }
    return Int32(clamping: done)
  }

  private func hasNonBlockingFlag(_ number: Int32, of call: TrappedCall) -> Bool {
    guard let copy = try? call.task.duplicateDescriptor(number) else { return false }
    return fcntl(copy.rawValue, F_GETFL) & O_NONBLOCK != 0
  }
}

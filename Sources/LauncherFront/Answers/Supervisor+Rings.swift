// SPDX-License-Identifier: Apache-2.0

// io_uring_enter(2) with requests for files of this server. The kernel would make them on the
// stand-in files. So the supervisor makes a request itself, and replaces its entry in the program's
// submission queue by one that does nothing and completes with the result (IORING_OP_NOP). Polls
// are made on the stand-ins, which are ready when the files are.
//
// The entries that are pending are found in /proc/<pid>/fdinfo (io_uring_show_fdinfo()), because
// the ring does not tell its layout. A program whose kernel thread takes the entries
// (IORING_SETUP_SQPOLL) cannot be served so: the memory of its ring cannot be mapped.

internal import CLinux
internal import FrontEnd
internal import Glibc
internal import Host
internal import SystemPackage
internal import UAPI

extension Supervisor {
  func enterRing(_ call: TrappedCall) throws(Errno) -> Answer {
    // IORING_ENTER_REGISTERED_RING: the number is not that of a descriptor.
    guard files.counts.open > 0, call.word(3) & Self.isRegistered == 0,
      let ring = try? call.task.duplicateDescriptor(call.descriptor(0)),
      ProcFile.link("/proc/self/fd/\(ring.rawValue)", is: "anon_inode:[io_uring]"),
      let text = try? ProcFile.read("/proc/self/fdinfo/\(ring.rawValue)"),
      let pending = PendingSubmissions(text), !pending.indices.isEmpty,
      listener.isWaiting(call.id),
      let first = CLinux_map_submissions(ring.rawValue, pending.count)
    else { return .native }
    defer { CLinux_unmap_submissions(first, pending.count) }
    // SAFETY: the indices are below the number of entries that are mapped. The program can change
    // the entries at any time, so each is copied once.
    for (index, userData) in pending.indices.prefix(Int(clamping: call.word(1))) {
      let entry = first.advanced(by: Int(index))
      let submission = entry.pointee
      // With IORING_SETUP_SQE128 the entry is elsewhere, and has another number.
      guard submission.user_data == userData else { continue }
      if let result = answer(to: submission, pending, call) {
        CLinux_answer_submission(entry, result)
      }
    }
    return .native
  }

  private static let isRegistered: UInt32 = 1 << 4

  /// - Returns: the result of a request for a file of this server; `nil` for others.
  private func answer(
    to submission: CLinux_submission, _ pending: PendingSubmissions, _ call: TrappedCall
  ) -> Int32? {
    guard let kind = RingOperation(rawValue: submission.operation) else { return nil }
    if submission.flags & Self.fixedFile != 0 {
      // The kernel has the file in a table that cannot be read.
      let path = pending.files[UInt32(bitPattern: submission.descriptor)]
      return path.map(isStandIn) == true ? -Errno.badFileDescriptor.rawValue : nil
    }
    let client = client(of: call)
    if kind == .splice || kind == .tee,
      let source = client.identity(of: submission.second_descriptor), files.contains(source)
    {
      return -Errno.invalidArgument.rawValue
    }
    guard let entry = try? client.beginCall(on: submission.descriptor), entry.position == nil
    else { return nil }
    defer {
      files.endCall(on: entry)
      files.deliverWakeups()
    }
    do throws(Errno) {
      return try perform(kind, submission, on: entry, client, call)
    } catch {
      return -error.rawValue
    }
  }

  /// IOSQE_FIXED_FILE and IOSQE_BUFFER_SELECT
  private static let fixedFile: UInt8 = 1
  private static let selectsBuffer: UInt8 = 1 << 5

  /// Whether a path that fdinfo shows for a registered file is that of a stand-in.
  private func isStandIn(_ path: Substring) -> Bool {
    if path.hasPrefix("/memfd:/dev/") { return true }
    guard path.hasPrefix("socket:["), let inode = UInt64(path.dropFirst(8).dropLast()) else {
      return false
    }
    return files.containsQueue(inode: inode)
  }

  private func perform(
    _ kind: RingOperation, _ submission: CLinux_submission, on entry: OpenFileEntry,
    _ client: LauncherClient, _ call: TrappedCall
  ) throws(Errno) -> Int32 {
    switch kind {
    case .fsync, .splice, .tee, .truncate: throw .invalidArgument
    case .syncFileRange: throw .illegalSeek
    case .fallocate: throw .operationNotSupportedByDevice
    case .command: throw .notSupportedOnSocket
    case .sendMessage, .receiveMessage, .accept, .connect, .send, .receive, .shutdown,
      .sendZeroCopy, .sendMessageZeroCopy:
      throw .notSocket
    case .read, .readFixed, .readVector: break
    case .write, .writeFixed, .writeVector: break
    }
    let direction: TransferDirection = kind.isWrite ? .write : .read
    guard direction == .read ? entry.isReadable : entry.isWritable else {
      throw .badFileDescriptor
    }
    guard submission.flags & Self.selectsBuffer == 0, CLinux_can_answer_submissions(),
      direction.isSupported(by: entry.file)
    else { throw .invalidArgument }
    let isVector = kind == .readVector || kind == .writeVector
    let form = TransferCall.Form(
      position: .argument, isVector: isVector, wordSize: call.architecture.wordSize)
    let arguments = [0, submission.address, UInt64(submission.length), submission.offset, 0, 0]
    let transfer = try TransferCall(form) { arguments[$0] }.transfer(in: client)
    // The kernel waits until the queue is readable. A program that gets EAGAIN polls.
    if direction == .read, entry.queue != nil, !transfer.pieces.isEmpty,
      !entry.file.readiness().contains(.readable)
    {
      throw .wouldBlock
    }
    // A queue has no position (io_file_get_ppos()).
    let start = entry.node == nil ? 0 : submission.offset
    let done = try transfer.run(in: client) { (buffer, done) throws(Errno) in
      try direction.perform(on: entry.file, buffer, at: start &+ UInt64(done))
    }
    entry.queue?.updateReadiness(
      entry.file, afterReadOf: submission.descriptor, of: call.task)
    return Int32(clamping: done)
  }
}

/// IORING_OP_… of the requests that the kernel would make on a stand-in file with another answer.
private enum RingOperation: UInt8 {
  case readVector = 1
  case writeVector = 2
  case fsync = 3
  case readFixed = 4
  case writeFixed = 5
  case syncFileRange = 8
  case sendMessage = 9
  case receiveMessage = 10
  case accept = 13
  case connect = 16
  case fallocate = 17
  case read = 22
  case write = 23
  case send = 26
  case receive = 27
  case splice = 30
  case tee = 33
  case shutdown = 34
  case command = 46
  case sendZeroCopy = 47
  case sendMessageZeroCopy = 48
  case truncate = 55

  var isWrite: Bool {
    switch self {
    case .write, .writeFixed, .writeVector: true
    default: false
    }
  }
}

/// What the fdinfo file of a ring says.
struct PendingSubmissions {
  /// The number of entries of the submission queue.
  let count: UInt32
  /// The entries that wait, with the user_data that they have, in their order.
  private(set) var indices: [(index: UInt32, userData: UInt64)] = []
  /// The paths of registered files.
  private(set) var files: [UInt32: Substring] = [:]

  private static let mostEntries: UInt32 = 32768

  /// - Returns: `nil` for another text.
  init?(_ text: String) {
    var count: UInt32?
    var isInFiles = false
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2 else { continue }
      let value = parts[1].drop(while: \.isWhitespace)
      if parts[0] == "SqMask" {
        count = UInt32(value.dropFirst(value.hasPrefix("0x") ? 2 : 0), radix: 16).map { $0 &+ 1 }
      } else if parts[0] == "UserFiles" {
        isInFiles = true
      } else if let number = UInt32(parts[0].drop(while: \.isWhitespace)) {
        if value.hasPrefix("opcode:") {
          if let userData = Self.userData(of: value) { indices.append((number, userData)) }
        } else if isInFiles {
          files[number] = value
        }
      } else {
        isInFiles = false
      }
    }
    guard let count, 1...Self.mostEntries ~= count else { return nil }
    self.count = count
    indices.removeAll { $0.index >= count }
  }

  private static func userData(of line: Substring) -> UInt64? {
    let name = "user_data:"
    for part in line.split(separator: " ") where part.hasPrefix(name) {
      return UInt64(part.dropFirst(name.count).prefix { $0.isNumber })
    }
    return nil
  }
}

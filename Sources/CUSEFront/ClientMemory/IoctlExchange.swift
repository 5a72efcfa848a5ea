// One ioctl(2): the message, the caller's memory, and how both end.
//
// The usual way is one round trip: the device reads and writes the caller's memory in place.
//
// When the server has no ptrace rights over the caller (a server that is not root, a container
// without CAP_SYS_PTRACE), FUSE's retry protocol is left: the kernel copies ranges that the server
// names, and sends the ioctl again. A device cannot run twice, so the ranges must be known before
// it has done anything. The kernel's own drivers make that possible for argument structs: their
// first act is to read the struct's first u32, which is its size. So
//
//   round 1  nothing fetched: the device's first access, at the argument, is denied; it has done
//            nothing yet and fails; ask for 4 bytes at the argument
//   round 2  4 bytes fetched, the size: ask for the struct, and for room to write it back
//   round 3  the device runs on the fetched copy
//
// Limits: memory that a struct points to is out of reach (EFAULT, and a line in the log), so such a
// client can allocate, query and destroy, but not map; and a struct may have 64 KiB.

internal import Host
internal import Logging
internal import SystemPackage
internal import UAPI

/// The caller's memory during one ioctl.
final class CallMemory: UserMemory {
  private let task: HostTask
  private let argument: UInt64
  /// The argument struct where the kernel fetched it, with what the device has stored in it.
  private(set) var fetched: [UInt8]?
  /// The first access was a read at the argument, and was denied: nothing has happened yet.
  private(set) var wasDeniedAtFirst = false
  /// An access was denied that fetching cannot replace.
  private(set) var wasDenied = false
  private var isFirst = true

  init(of task: HostTask, argument: UInt64, fetched: [UInt8]?) {
    self.task = task
    self.argument = argument
    self.fetched = fetched
  }

  func copyIn(
    from address: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) {
    defer { isFirst = false }
    if wasDeniedAtFirst { throw .badAddress }
    if let fetched, let range = fetchedRange(address, buffer.count) {
      fetched.withUnsafeBytes { buffer.copyMemory(from: .init(rebasing: $0[range])) }
      return
    }
    // Longer than the caller says its struct is: to be asked again for what there is.
    if fetched != nil, address == argument { throw .badAddress }
    do {
      try task.read(at: address, into: buffer)
    } catch {
      throw denial(error, atArgument: address == argument)
    }
  }

  func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
    defer { isFirst = false }
    if wasDeniedAtFirst { throw .badAddress }
    if let range = fetchedRange(address, bytes.count) {
      fetched?.replaceSubrange(range, with: bytes)
      return
    }
    do {
      try task.write(bytes, at: address)
    } catch {
      throw denial(error, atArgument: false)
    }
  }

  /// Where in `fetched` the range lies, if it lies there as a whole.
  private func fetchedRange(_ address: UInt64, _ count: Int) -> Range<Int>? {
    guard let fetched, address >= argument, address - argument <= UInt64(fetched.count) else {
      return nil
    }
    let start = Int(address - argument)
    return count <= fetched.count - start ? start..<start + count : nil
  }

  /// To the device every failure is EFAULT, as in the kernel.
  private func denial(_ error: Errno, atArgument: Bool) -> Errno {
    if error == .notPermitted {
      if isFirst && atArgument && fetched == nil {
        wasDeniedAtFirst = true
      } else {
        wasDenied = true
      }
    }
    return .badAddress
  }
}

/// What the kernel sent of the argument struct so far.
enum FetchRound: Equatable {
  case nothing
  case size(UInt32)
  case structure([UInt8])

  static let sizeLength = MemoryLayout<UInt32>.size
  static let limit = 65536

  /// - Parameter room: the bytes that the answer may carry; only the last round asks for any.
  init(received bytes: UnsafeRawBufferPointer, room: Int) {
    if bytes.count < Self.sizeLength {
      self = .nothing
    } else if room == 0 {
      self = .size(bytes.loadUnaligned(as: UInt32.self))
    } else {
      self = .structure([UInt8](bytes))
    }
  }

  /// The bytes to fetch for a struct that says it has `size`.
  static func structureLength(_ size: UInt32) -> Int {
    min(max(Int(size), sizeLength), limit)
  }
}

/// An ioctl message, independent of the buffers it came in.
struct IoctlExchange: Sendable {
  let request: Request
  let task: HostTask
  let number: UInt32
  let argument: UInt64
  let isCompat: Bool
  let round: FetchRound

  /// Has the device do it, and answers.
  func run(on served: ServedFile, of session: Session) {
    if case .size(let size) = round {
      let range = UserRange(address: argument, count: FetchRound.structureLength(size))
      request.retry(reading: range, writing: range)
      return
    }
    var fetched: [UInt8]?
    if case .structure(let bytes) = round { fetched = bytes }
    let memory = CallMemory(of: task, argument: argument, fetched: fetched)
    let client = CUSEClient(
      task, memory: memory, services: session.services, named: served.namedFiles,
      injection: isCompat
        ? nil : InjectionPoint(task, answering: request, holder: session.services.holder))
    let trace = IoctlTrace(
      number, argument: argument, by: task, on: served.file, of: session.node,
      log: session.services.log)
    let result: Int32
    do throws(Errno) {
      result = try served.file.ioctl(number, argument: argument, client: client)
    } catch {
      if memory.wasDeniedAtFirst {
        request.retry(
          reading: UserRange(address: argument, count: FetchRound.sizeLength), writing: nil)
        return
      }
      result = -error.rawValue
    }
    trace?.record(result)
    if memory.wasDenied, served.shouldReportDenial() {
      session.services.log.warning(
        """
        \(session.node): no ptrace rights over thread \(task.id): only commands without pointers \
        in their struct work for it
        """)
    }
    if let held = client.held {
      held.finish(returning: result)
    } else {
      request.reply(ioctl: result, output: memory.fetched ?? [])
    }
  }
}

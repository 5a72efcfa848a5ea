// SPDX-License-Identifier: Apache-2.0

internal import FrontEnd
internal import Host
internal import Logging
internal import SystemPackage
internal import UAPI

/// One message of an ioctl(2), independent of the buffers in which it came.
///
/// An ioctl usually takes one round trip: the device reads and writes the caller's memory in place.
///
/// When the server has no ptrace rights over the caller (a server that is not root, a container
/// without CAP_SYS_PTRACE), FUSE's retry protocol remains: the kernel copies ranges that the server
/// names, and sends the ioctl again. A device must not run twice, so the server must know the
/// ranges before the device has had an effect. For argument structs this is possible, because the
/// first act of the kernel's drivers, and of ours, is to read the first u32 of the struct, which is
/// the struct's size:
///
///     round 1   Nothing is fetched. The first access of the device, at the argument, is denied.
///               The device fails before it has had an effect. The server asks for 4 bytes there.
///     round 2   4 bytes are fetched, the size. The server asks for the struct, and for room to
///               write it back.
///     round 3   The device runs on the fetched copy.
///
/// Memory that a struct points to cannot be fetched so (EFAULT, and a line in the log), and a
/// struct may have at most 64 KiB. Such a client can therefore allocate, query and destroy objects,
/// but not map memory.
struct IoctlExchange: Sendable {
  let request: CUSERequest
  let task: HostTask
  let number: UInt32
  let argument: UInt64
  let isCompat: Bool
  let round: FetchRound

  /// Makes the device run the ioctl, and answers the message.
  func run(on served: ServedFile, of session: CUSESession) {
    if case .size(let size) = round {
      let range = UserRange(address: argument, count: FetchRound.structureLength(size))
      request.retry(reading: range, writing: range)
      return
    }
    var fetched: [UInt8]?
    if case .structure(let bytes) = round { fetched = bytes }
    let memory = IoctlMemory(of: task, argument: argument, fetched: fetched)
    let client = CUSEClient(
      task, served.owner, memory: memory, resources: session.resources,
      descriptorCache: served.descriptorCache,
      injection: isCompat
        ? nil : InjectionPoint(task, answering: request, tracer: session.resources.tracer))
    if round == .nothing, prepare(client, for: served, of: session) == .answered { return }
    let trace = beginTrace(of: served, on: session)
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
    if let trace { record(result, trace, on: session) }
    if memory.wasDenied, served.shouldReportDenial() {
      session.resources.log.warning(
        """
        \(session.node): no ptrace rights over thread \(task.id): only commands without pointers \
        in their struct work for it
        """)
    }
    if let tracee = client.tracee {
      tracee.resume(returning: result)
    } else {
      request.reply(ioctl: result, output: memory.fetched ?? [])
    }
  }

  /// Decides how memory of the caller is pinned, if the ioctl may lead to pins and that is not
  /// decided yet.
  private func prepare(
    _ client: CUSEClient, for served: ServedFile, of session: CUSESession
  ) -> ExactPinning.Outcome {
    let resources = session.resources
    guard !isCompat, let pinning = resources.pinning, served.file.pinsMemory(in: number),
      let space = try? client.addressSpace()
    else { return .notAnswered }
    return pinning.prepare(space) { () throws(Errno) in
      let point = InjectionPoint(task, answering: request, tracer: resources.tracer)
      let thread = try point.stopThread()
      do throws(Errno) {
        return .success(try thread.makeAgent(allowedFilters: resources.ownFilters))
      } catch {
        return .failure(error)
      }
    }
  }

  // MARK: `serve --log-level trace`

  /// Returns `nil` when the log does not show traces.
  private func beginTrace(of served: ServedFile, on session: CUSESession) -> IoctlTrace? {
    guard session.resources.log.logLevel <= .trace else { return nil }
    // Not the client's `IoctlMemory`: a read by the trace must not count as the call's first
    // access.
    return IoctlTrace(
      number, argument: argument, from: served.file.ioctls, in: CallerMemory(task: task))
  }

  /// Logs the ioctl and its result in the format of `run --trace`. To be called before the client
  /// continues.
  private func record(_ result: Int32, _ trace: IoctlTrace, on session: CUSESession) {
    let answer = result < 0 ? "-1 \(Errno(rawValue: -result).symbol)" : "\(result)"
    let changes = trace.changes()
    session.resources.log.trace(
      "[\(task.id)] ioctl(\(session.node), \(trace.arguments)) = \(answer)\(changes)")
  }
}

/// What the kernel has fetched of the argument struct so far.
enum FetchRound: Equatable {
  case nothing
  case size(UInt32)
  case structure([UInt8])

  /// The bytes of the size at the beginning of a struct.
  static let sizeLength = MemoryLayout<UInt32>.size
  /// The most bytes that are fetched.
  static let limit = 65536

  /// - Parameters:
  ///   - bytes: what the kernel has fetched.
  ///   - room: the bytes that the answer may carry. Only the last round asks for any.
  init(received bytes: UnsafeRawBufferPointer, room: Int) {
    if bytes.count < Self.sizeLength {
      self = .nothing
    } else if room == 0 {
      self = .size(bytes.loadUnaligned(as: UInt32.self))
    } else {
      self = .structure([UInt8](bytes))
    }
  }

  /// Returns the bytes to fetch of a struct that claims to have `size` bytes.
  static func structureLength(_ size: UInt32) -> Int {
    min(max(Int(size), sizeLength), limit)
  }
}

// The thread that waits for our answer, as a device sees it.

internal import CLinux
internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

final class LauncherClient: Client {
  let task: HostTask
  let call: UInt64
  private let listener: Listener
  private let files: OpenFiles
  private let queueNumbers: QueueNumbers
  private let spaces: AddressSpaces
  private let threads: KnownThreads
  private let capabilitiesOfRoot: Set<Capability>
  /// The thread, when it has made calls before.
  private var thread: KnownThread?
  /// Nothing was read yet.
  private var isFirstRead = true
  /// Found during this call, which no exec can interrupt: a thread that waits is killed before.
  private var space: AddressSpace?

  init(
    _ call: TrappedCall, listener: Listener, files: OpenFiles, queueNumbers: QueueNumbers,
    spaces: AddressSpaces, threads: KnownThreads, capabilitiesOfRoot: Set<Capability>
  ) {
    task = call.task
    self.call = call.id
    self.listener = listener
    self.files = files
    self.queueNumbers = queueNumbers
    self.spaces = spaces
    self.threads = threads
    self.capabilitiesOfRoot = capabilitiesOfRoot
    thread = threads.thread(of: call)
  }

  var isKnown: Bool { thread != nil }

  func isCapable(of capability: Capability) -> Bool {
    task.isCapable(of: capability)
      || capabilitiesOfRoot.contains(capability) && (try? task.realUserID()) == 0
  }

  // MARK: Memory

  /// A killed thread's id may be given to another one at any time. What was read counts only if the
  /// thread was still waiting afterwards (seccomp_unotify(2)).
  func copyIn(from address: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(Errno) {
    let expected = isFirstRead ? thread?.expectedSpace() : nil
    isFirstRead = false
    guard let (space, stamp) = expected else {
      try task.read(at: address, into: buffer)
      return try checkPresence()
    }
    let isStillThere = try task.read(at: address, into: buffer, verifying: stamp)
    try checkPresence()
    if isStillThere { self.space = space }
  }

  func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
    try checkPresence()
    try task.write(bytes, at: address)
  }

  private func checkPresence() throws(Errno) {
    guard listener.isWaiting(call) else { throw .noSuchProcess }
  }

  func addressSpace() throws(Errno) -> AddressSpace {
    if space == nil {
      space = try spaces.space(of: task)
      try checkPresence()
    }
    guard let space else { throw .noSuchProcess }
    thread?.note(space) { spaces.execIdentity(of: space) }
    return space
  }

  // MARK: Descriptors

  /// A device would not be told of the last close of what it has a copy of itself, and would find
  /// memory where the program means a device.
  func duplicateDescriptor(_ number: Int32) throws(Errno) -> OwnedDescriptor {
    let copy = try task.duplicateDescriptor(number)
    try checkPresence()
    guard files.isCarrier(try StandInIdentity(of: copy)), !copy.isPathOnly else { return copy }
    return try SubstituteFile.open()
  }

  func openFile(_ number: Int32) throws(Errno) -> (any OpenFile)? {
    guard let entry = try begin(number) else { return nil }
    defer { files.end(entry) }
    if thread == nil { try checkPresence() }
    return entry.file
  }

  /// ``OpenFiles/begin(_:of:)`` of a descriptor of the thread.
  func begin(_ number: Int32) throws(Errno) -> OpenEntry? {
    if let thread {
      do throws(Errno) {
        return files.begin(try thread.identity(of: number))
      } catch {
        if error == .badFileDescriptor { throw error }
        // It has ended, or this process may not have a copy.
        if error == .noSuchProcess { threads.forget(thread) }
        self.thread = nil
      }
    }
    return try files.begin(number, of: task)
  }

  /// The number is chosen, told and only then given, as the kernel's get_unused_fd_flags(),
  /// copy_to_user() and fd_install(): a program whose memory refuses the number has no descriptor.
  func install(
    _ file: any OpenFile, publish: (_ number: Int32) throws(Errno) -> Void
  ) throws(Errno) {
    try FaultInjection.step()
    let process = try task.processID()
    let number = try queueNumbers.reserve(in: task, of: process)
    defer { queueNumbers.unreserve(number, of: process) }
    let (entry, carrier) = try files.adopt(queue: file)
    do {
      try publish(number)
      try listener.install(
        carrier, as: number, for: call,
        closeOnExec: file.descriptorFlags & DescriptorFlags.closeOnExec != 0)
      entry.queue?.note(number, of: HostTask(id: process))
    } catch {
      files.disown(entry)
      throw error
    }
  }
}

/// Descriptor numbers that are about to be given to programs.
final class QueueNumbers: Sendable {
  private struct Reservation: Hashable {
    let process: Int32
    let number: Int32
  }

  private let reservations = Mutex<Set<Reservation>>([])

  /// The lowest free number for a queue.
  /// - Throws: `.tooManyOpenFiles` when there is none below the process's limit.
  func reserve(in task: HostTask, of process: Int32) throws(Errno) -> Int32 {
    let end = Int32(clamping: try HostTask(id: process).descriptorLimit())
    var number = firstQueueDescriptor
    while number < end {
      if isFree(number, in: task) {
        let reservation = Reservation(process: process, number: number)
        if reservations.withLock({ $0.insert(reservation).inserted }) { return number }
      }
      number += 1
    }
    throw .tooManyOpenFiles
  }

  func unreserve(_ number: Int32, of process: Int32) {
    _ = reservations.withLock { $0.remove(Reservation(process: process, number: number)) }
  }

  private func isFree(_ number: Int32, in task: HostTask) -> Bool {
    do {
      _ = try StandInIdentity(of: number, in: task)
      return false
    } catch {
      return error == .badFileDescriptor
    }
  }
}

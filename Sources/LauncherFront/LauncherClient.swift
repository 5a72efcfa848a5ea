// The thread that waits for our answer, as a device sees it.

internal import CLinux
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

struct LauncherClient: Client {
  let task: HostTask
  let call: UInt64
  let listener: Listener
  let files: OpenFiles
  let queueNumbers: QueueNumbers
  let spaces: AddressSpaces
  let capabilitiesOfRoot: Set<Capability>

  func isCapable(of capability: Capability) -> Bool {
    task.isCapable(of: capability)
      || capabilitiesOfRoot.contains(capability) && (try? task.realUserID()) == 0
  }

  /// A killed thread's id may be given to another one at any time. What was read counts only if the
  /// thread was still waiting afterwards (seccomp_unotify(2)).
  func copyIn(from address: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(Errno) {
    try task.read(at: address, into: buffer)
    try checkPresence()
  }

  func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
    try checkPresence()
    try task.write(bytes, at: address)
  }

  private func checkPresence() throws(Errno) {
    guard listener.isWaiting(call) else { throw .noSuchProcess }
  }

  func addressSpace() throws(Errno) -> AddressSpace {
    let space = try spaces.space(of: task)
    try checkPresence()
    return space
  }

  /// A device would not be told of the last close of what it has a copy of itself, and would find
  /// memory where the program means a device.
  func duplicateDescriptor(_ number: Int32) throws(Errno) -> OwnedDescriptor {
    let copy = try task.duplicateDescriptor(number)
    try checkPresence()
    return files.isCarrier(try CarrierIdentity(of: copy)) ? try files.makeStandIn() : copy
  }

  func openFile(_ number: Int32) throws(Errno) -> (any OpenFile)? {
    guard let entry = try files.begin(number, of: task) else { return nil }
    defer { files.end(entry) }
    try checkPresence()
    return entry.file
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
      try listener.install(carrier, as: number, for: call, closeOnExec: true)
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
      _ = try CarrierIdentity(of: number, in: task)
      return false
    } catch {
      return error == .badFileDescriptor
    }
  }
}

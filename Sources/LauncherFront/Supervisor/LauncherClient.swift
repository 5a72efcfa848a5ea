// SPDX-License-Identifier: Apache-2.0

internal import FrontEnd
internal import Host
internal import SystemPackage
internal import UAPI

/// The thread that waits for the answer to a trapped call, as a device sees it.
final class LauncherClient: Client {
  let task: HostTask
  /// The ID of the call.
  let call: UInt64
  private let listener: SeccompListener
  private let files: OpenFileTable
  private let spaces: ClientAddressSpaces
  private let threads: CallerThreads
  private let grants: GrantedCapabilities
  /// The thread in the cache. `nil` when it has not made a call before.
  private var thread: CallerThread?
  private var isFirstRead = true
  /// The address space, once it was found during this call. It stays the same until the answer: an
  /// exec of another thread first kills the waiting thread.
  private var space: AddressSpace?

  init(
    _ call: TrappedCall, listener: SeccompListener, files: OpenFileTable,
    spaces: ClientAddressSpaces, threads: CallerThreads, grants: GrantedCapabilities
  ) {
    task = call.task
    self.call = call.id
    self.listener = listener
    self.files = files
    self.spaces = spaces
    self.threads = threads
    self.grants = grants
    thread = threads.thread(of: call)
  }

  /// Whether the thread was in the cache of caller threads.
  var isCached: Bool { thread != nil }

  /// The ID of the thread's process.
  var process: Int32 { identity.process }

  /// Whose share the call uses.
  private var identity: ClientIdentity { ClientIdentity(of: task) }

  func isCapable(of capability: Capability) -> Bool {
    grants.isCapable(task, of: capability)
  }

  // MARK: Memory

  /// The ID of a thread that was killed may be another thread's. So the bytes read are valid only
  /// if the thread still waits after the read (seccomp_unotify(2)).
  func copyIn(from address: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(Errno) {
    let expected = isFirstRead ? thread?.expectedSpace() : nil
    isFirstRead = false
    guard let (space, identity) = expected else {
      try task.read(at: address, into: buffer)
      return try checkWaiting()
    }
    let isSameExec = try task.read(at: address, into: buffer, verifying: identity)
    try checkWaiting()
    if isSameExec { self.space = space }
  }

  func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
    try checkWaiting()
    try task.write(bytes, at: address)
  }

  /// - Throws: `.noSuchProcess` when the thread does not wait for the answer any more.
  private func checkWaiting() throws(Errno) {
    guard listener.isWaiting(call) else { throw .noSuchProcess }
  }

  func addressSpace() throws(Errno) -> AddressSpace {
    if space == nil {
      space = try spaces.space(of: task)
      try checkWaiting()
    }
    guard let space else { throw .noSuchProcess }
    thread?.recordUse(of: space) { spaces.execIdentity(of: space) }
    return space
  }

  // MARK: Descriptors

  /// A device gets a substitute instead of a stand-in file: its copy would keep the stand-in file
  /// open, and a stand-in file is memory where the program passes a device.
  func duplicateDescriptor(_ number: Int32) throws(Errno) -> OwnedDescriptor {
    let charge = try ChargedShares.descriptors.charge(identity)
    let copy = try task.duplicateDescriptor(number, charge: charge)
    try checkWaiting()
    guard files.isStandIn(try StandInIdentity(of: copy)), !copy.isPathOnly else { return copy }
    return try SubstituteFile.open()
  }

  func openFile(_ number: Int32) throws(Errno) -> (any OpenFile)? {
    guard let entry = try beginCall(on: number) else { return nil }
    defer { files.endCall(on: entry) }
    if thread == nil { try checkWaiting() }
    return entry.file
  }

  /// ``OpenFileTable/beginCall(on:)`` for descriptor `number` of the thread.
  func beginCall(on number: Int32) throws(Errno) -> OpenFileEntry? {
    try beginCallOnFile(of: number).entry
  }

  /// ``beginCall(on:)``, also with the identity of the file that descriptor `number` refers to.
  func beginCallOnFile(
    of number: Int32
  ) throws(Errno) -> (identity: StandInIdentity, entry: OpenFileEntry?) {
    var identity = try identityOrThrow(of: number)
    for _ in 0..<Self.mostLookUps {
      if let entry = files.beginCall(on: identity) { return (identity, entry) }
      guard files.mayHaveBeenStandIn(identity) else { break }
      // Other threads may have closed the file since the look-up and put a stand-in at the number.
      // If the kernel executed the call, that stand-in would answer. No closed stand-in has the
      // number now.
      let next = try identityOrThrow(of: number)
      if next == identity { break }
      identity = next
    }
    return (identity, nil)
  }

  /// So many changes of a number are looked up during one call. A program that changes it for ever
  /// must not keep the worker.
  private static let mostLookUps = 100

  /// ``beginCall(on:)``, with `nil` also when this process may not look at the thread's
  /// descriptors.
  /// - Throws: `.badFileDescriptor`.
  func beginCallIfPermitted(on number: Int32) throws(Errno) -> OpenFileEntry? {
    do {
      return try beginCall(on: number)
    } catch {
      if error == .badFileDescriptor { throw error }
      return nil
    }
  }

  /// The identity of the file behind descriptor `number` of the thread. `nil` when there is none.
  func identity(of number: Int32) -> StandInIdentity? { try? identityOrThrow(of: number) }

  private func identityOrThrow(of number: Int32) throws(Errno) -> StandInIdentity {
    if let thread {
      do throws(Errno) {
        return try thread.identity(of: number)
      } catch {
        if error == .badFileDescriptor { throw error }
        // The thread has ended, or this process may not duplicate the descriptor.
        if error == .noSuchProcess { threads.remove(thread) }
        self.thread = nil
      }
    }
    return try StandInIdentity(of: number, in: task)
  }

  /// Reserves a number, calls `publish` and then installs the descriptor, in the order of the
  /// kernel's get_unused_fd_flags(), copy_to_user() and fd_install(). When the number cannot be
  /// stored in the program's memory, the program gets no descriptor.
  func install(
    _ file: any OpenFile, publish: (_ number: Int32) throws(Errno) -> Void
  ) throws(Errno) {
    try FaultInjection.step()
    let process = try task.processID()
    let number = try files.numbers.reserve(in: task, of: process)
    var isInstalled = false
    defer { files.numbers.cancel(number, of: process, isFree: !isInstalled) }
    let (entry, standIn) = try files.add(madeByDevice: file, by: process)
    do {
      try publish(number)
      try listener.install(
        standIn, as: number, for: call,
        closeOnExec: file.descriptorFlags & DescriptorFlags.closeOnExec != 0)
      isInstalled = true
      entry.recordInstallation(at: number, of: process)
      entry.queue?.recordDescriptor(number, of: HostTask(id: process))
    } catch {
      files.withdraw(entry)
      throw error
    }
  }
}

internal import CLinux
internal import Glibc
internal import Host
internal import Logging
internal import Synchronization
internal import SystemPackage

/// What the sessions of one server share.
final class Services: Sendable {
  let gate = CallGate(limit: 64, ownerLimit: 16)
  let identification = Identification()
  let handover = ExpectedOpens()
  let closer = DescriptorCloser()
  let holder: Tracer
  let nodes = NodeNumbers()
  let addressSpaces: AddressSpaceRegistry
  /// The queue node's path.
  let queuePath: String
  let log: Logger

  init(
    queuePath: String, holder: Tracer, log: Logger,
    processEnds: (@Sendable (AddressSpace) -> Void)?
  ) {
    self.holder = holder
    addressSpaces = AddressSpaceRegistry(
      retainer: processEnds.flatMap { AddressSpaceRetainer(onExit: $0) })
    self.queuePath = queuePath
    self.log = log
  }

  /// Makes a descriptor for `file` in the stopped `thread`.
  func makeDescriptor(of file: PendingFile, in thread: Tracee) throws(Errno) -> Int32 {
    handover.expect(file, openedBy: thread.task.id)
    do throws(Errno) {
      defer { handover.forget(thread.task.id) }
      let number = try thread.open(queuePath)
      if handover.forget(thread.task.id) { return number }
      thread.close(number)
    } catch {
      guard [.noSuchFileOrDirectory, .permissionDenied, .noSuchAddressOrDevice].contains(error)
      else { throw error }
    }
    // The client sees other files under that path than we do (chroot, another mount namespace), or
    // may not open the node: open it here and send it over.
    return try thread.receive { [self] () throws(Errno) in
      try open(queuePath, expecting: file)
    }
  }

  /// Opens one of this server's nodes. Waits for a message to this server: only in an ``UnsharedTable``.
  /// - Throws: `.noSuchAddressOrDevice` when `path` is something else.
  func open(_ path: String, expecting file: PendingFile) throws(Errno) -> OwnedDescriptor {
    let thread = CLinux_gettid()
    handover.expect(file, openedBy: thread)
    let descriptor = Glibc.open(path, O_RDWR | O_CLOEXEC)
    let failure = Errno(rawValue: errno)
    let isOurs = handover.forget(thread)
    guard descriptor >= 0 else { throw failure }
    let owned = OwnedDescriptor(owning: descriptor)
    guard isOurs else { throw .noSuchAddressOrDevice }
    return owned
  }

  /// Closes a copy of a client's descriptor, which may be the last one of a file of ours.
  func close(_ descriptor: Int32) {
    if nodes.contain(descriptor) { closer.close(descriptor) } else { Glibc.close(descriptor) }
  }
}

/// The device numbers of this server's nodes: only their files are ever asked who they are.
final class NodeNumbers: Sendable {
  private let numbers = Mutex<Set<UInt>>([])

  func insert(_ number: UInt) {
    numbers.withLock { _ = $0.insert(number) }
  }

  /// Whether `descriptor` is an open file of one of the nodes.
  func contain(_ descriptor: Int32) -> Bool {
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFCHR else {
      return false
    }
    return numbers.withLock { $0.contains(UInt(status.st_rdev)) }
  }
}

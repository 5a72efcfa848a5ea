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
  let handover = Handover()
  let closer = DescriptorCloser()
  let nodes = NodeNumbers()
  let addressSpaces = AddressSpaceRegistry()
  /// The queue node's path.
  let queuePath: String
  let log: Logger

  init(queuePath: String, log: Logger) {
    self.queuePath = queuePath
    self.log = log
  }

  /// Makes a descriptor for `file` in the stopped `thread`.
  func makeDescriptor(of file: PendingFile, in thread: HeldThread) throws(Errno) -> Int32 {
    handover.expect(file, openedBy: thread.task.id)
    defer { handover.forget(thread.task.id) }
    do {
      return try thread.open(queuePath)
    } catch {
      // The client sees other files under that path than we do (chroot, another mount namespace),
      // or may not open the node: open it here and send it over.
      guard [.noSuchFileOrDirectory, .permissionDenied, .noSuchAddressOrDevice].contains(error)
      else { throw error }
    }
    handover.forget(thread.task.id)
    let own = CLinux_gettid()
    handover.expect(file, openedBy: own)
    defer { handover.forget(own) }
    let descriptor = Glibc.open(queuePath, O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else { throw Errno(rawValue: errno) }
    return try thread.receive(OwnedDescriptor(owning: descriptor))
  }
}

/// The device numbers of this server's nodes: only their files are ever asked who they are.
final class NodeNumbers: Sendable {
  private let numbers = Mutex<Set<UInt>>([])

  func insert(_ number: UInt) {
    numbers.withLock { _ = $0.insert(number) }
  }

  /// Whether `descriptor` is an open file of one of the nodes.
  func contain(_ descriptor: OwnedDescriptor) -> Bool {
    var status = stat()
    guard fstat(descriptor.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFCHR else {
      return false
    }
    return numbers.withLock { $0.contains(UInt(status.st_rdev)) }
  }
}

extension OwnedDescriptor {
  /// A second descriptor of the same open file; nil when none is left.
  func duplicate() -> Int32? {
    let copy = fcntl(rawValue, F_DUPFD_CLOEXEC, 0)
    return copy >= 0 ? copy : nil
  }
}

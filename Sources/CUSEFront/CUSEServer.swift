internal import Glibc
internal import Host
internal import Logging
internal import Synchronization
internal import SystemPackage
package import UAPI

/// Devices served as nodes under /dev.
///
/// There is no stop: the nodes live as long as the process, whose end takes them away at once. What
/// must not be cut short, a client's thread being held, is waited for by ``quiesce()``.
package final class CUSEServer: Sendable {
  /// One device and how its node looks.
  package struct Node: Sendable {
    package let device: any CharacterDevice
    /// The node's path below /dev.
    package let name: String
    package let mode: UInt32
    package let group: UInt32

    package init(_ device: any CharacterDevice, name: String, mode: UInt32, group: UInt32) {
      self.device = device
      self.name = name
      self.mode = mode
      self.group = group
    }
  }

  /// Why a server could not start, in words for its user.
  package struct Failure: Error, CustomStringConvertible {
    package let description: String
  }

  /// Counts of what is alive.
  package struct Status: Sendable, CustomStringConvertible {
    package var files: [(node: String, count: Int)]
    package var running: Int
    package var waiting: Int
    package var threads: Int

    package var description: String {
      let files = files.map { "\($0.node)=\($0.count)" }.joined(separator: " ")
      return "open files \(files); calls running=\(running) waiting=\(waiting); threads=\(threads)"
    }
  }

  private let nodes: [Node]
  private let numbers: (major: UInt32, minor: UInt32)
  private let services: Services
  private let sessions: [Session]

  /// - Parameters:
  ///   - queueName: the path below /dev of the node for descriptors that devices make.
  ///   - numbers: the first node's major and minor; the others' minors follow. 0 and 0 let the
  ///     kernel choose.
  ///   - processEnds: called with an address space that a device was given and whose process has
  ///     left it, before it goes.
  ///   - nodeEnded: called when the kernel has ended a node while it was served.
  init(
    _ nodes: [Node], queueName: String, numbers: (major: UInt32, minor: UInt32),
    holder: Tracer, log: Logger,
    processEnds: (@Sendable (AddressSpace) -> Void)?,
    nodeEnded: @escaping @Sendable (_ path: String) -> Void
  ) {
    // Opens that were not announced are refused, so that everybody may try: a client need not be
    // in a group to be given a queue.
    self.nodes =
      [Node(QueueDevice(name: queueName), name: queueName, mode: 0o666, group: 0)] + nodes
    self.numbers = numbers
    let services = Services(
      queuePath: "/dev/" + queueName, holder: holder, log: log, processEnds: processEnds)
    self.services = services
    sessions = self.nodes.map { node in
      Session(node.device, node: "/dev/" + node.name, services: services) { nodeEnded($0.node) }
    }
  }

  /// Makes every node, and returns when all can be opened.
  package func start() throws(Failure) {
    for (index, session) in sessions.enumerated() {
      // The queue node comes first, so that no client is served without it, and has the last minor.
      let minor = index == 0 ? nodes.count - 1 : index - 1
      let number = numbers.major == 0 ? (0, 0) : (numbers.major, numbers.minor + UInt32(minor))
      try publish(nodes[index], session, number: number)
    }
  }

  package var status: Status {
    let calls = services.gate.counts
    return Status(
      files: sessions.map { ($0.node, $0.fileCount) }, running: calls.running,
      waiting: calls.waiting, threads: sessions.reduce(0) { $0 + $1.threadCount })
  }

  /// Begins no further call, and waits up to `seconds` for those that run.
  package func quiesce(waitingFor seconds: Int = 5) {
    services.gate.close(waitingFor: seconds)
  }

  // MARK: Nodes

  /// Makes the session's node, with its mode and group.
  ///
  /// A name or number that is taken ends the connection without a word. So the node itself is the
  /// answer: it must not have been there, must appear, and must lead to this session.
  private func publish(
    _ node: Node, _ session: Session, number: (major: UInt32, minor: UInt32)
  ) throws(Failure) {
    let path = session.node
    var status = stat()
    guard lstat(path, &status) != 0 else {
      throw Failure(description: "\(path) exists already")
    }
    do {
      try session.connect(number: number)
    } catch {
      throw Self.explain(error, connecting: session)
    }
    for _ in 0..<2_000 where stat(path, &status) != 0 {
      guard !session.hasEnded else {
        throw Failure(
          description: "\(path): the kernel refused the device; is its name or number taken?")
      }
      usleep(5_000)
    }
    guard stat(path, &status) == 0 else { throw Failure(description: "\(path) did not appear") }
    guard status.st_mode & S_IFMT == S_IFCHR, leadsHere(path) else {
      throw Failure(description: "\(path) belongs to another device")
    }
    services.nodes.insert(UInt(status.st_rdev))
    // A node may be given to a group only by root, who alone serves outside of tests.
    guard chown(path, 0, node.group) == 0 || geteuid() != 0, chmod(path, node.mode) == 0 else {
      throw Failure(description: "\(path): cannot set group and mode: \(Errno(rawValue: errno))")
    }
  }

  /// Whether an open of `path` arrives at one of this server's sessions.
  private func leadsHere(_ path: String) -> Bool {
    let visit: Void? = try? UnsharedTable.run { [services] () throws(Errno) in
      _ = try services.open(path, expecting: PendingFile(Probe()))
    }
    return visit != nil
  }

  private static func explain(_ error: Errno, connecting session: Session) -> Failure {
    let reason =
      switch error {
      case .noSuchFileOrDirectory, .noSuchAddressOrDevice, .operationNotSupportedByDevice:
        "there is no /dev/cuse: load the module (modprobe cuse)"
      case .permissionDenied, .notPermitted:
        "/dev/cuse cannot be opened: \(error). Serving needs root"
      default:
        "\(error)"
      }
    return Failure(description: "\(session.node): \(reason)")
  }
}

/// What this server opens to see that a node is its own.
private final class Probe: OpenFile {
  func release() {}
}

// SPDX-License-Identifier: Apache-2.0

internal import FrontEnd
internal import Glibc
internal import Host
internal import Logging
internal import SystemPackage
package import UAPI

/// Devices that are served as nodes under /dev.
///
/// A server cannot be stopped: the kernel removes the nodes when the process ends. A call must not
/// be cut short while it has a client's thread stopped; ``quiesce(waitingFor:)`` waits for running
/// calls.
package final class CUSEServer: Sendable {
  /// One device and the properties of its node.
  package struct Node: Sendable {
    package let device: any CharacterDevice
    /// The path of the node below /dev.
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

  /// The reason why a server could not start, in words for its user.
  package struct StartError: Error, CustomStringConvertible {
    package let description: String
  }

  /// The numbers of open files, calls and threads at one moment.
  package struct Counts: Sendable, CustomStringConvertible {
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
  private let resources: SharedResources
  private let sessions: [CUSESession]

  /// - Parameters:
  ///   - queueName: the path below /dev of the queue node, on which descriptors that devices make
  ///     are opened.
  ///   - numbers: the major and minor number of the first node; the minors of the others follow.
  ///     With 0 and 0 the kernel chooses numbers.
  ///   - pinsExactly: whether the kernel pins private memory of clients, where that is possible.
  ///   - processEnds: called with an address space that a device was given, when its process has
  ///     left it and before the kernel frees its memory.
  ///   - nodeEnded: called when the kernel has ended the connection of a node.
  init(
    _ nodes: [Node], queueName: String, numbers: (major: UInt32, minor: UInt32),
    grants: GrantedCapabilities, tracer: Tracer, log: Logger, pinsExactly: Bool,
    processEnds: (@Sendable (AddressSpace) -> Void)?,
    nodeEnded: @escaping @Sendable (_ path: String) -> Void
  ) {
    // Everybody may open the queue node, because a client need not be in a group to be given a
    // queue. Opens that the server does not expect are refused.
    self.nodes =
      [Node(QueueDevice(name: queueName), name: queueName, mode: 0o666, group: 0)] + nodes
    self.numbers = numbers
    let resources = SharedResources(
      queuePath: "/dev/" + queueName, grants: grants, tracer: tracer, log: log,
      pinsExactly: pinsExactly,
      processEnds: processEnds)
    self.resources = resources
    sessions = self.nodes.map { node in
      CUSESession(node.device, node: "/dev/" + node.name, resources: resources) {
        nodeEnded($0.node)
      }
    }
  }

  /// Makes every node, and returns when all of them can be opened.
  package func start() throws(StartError) {
    for (index, session) in sessions.enumerated() {
      // The queue node is made first, so that no client is served without it, and has the last
      // minor.
      let minor = index == 0 ? nodes.count - 1 : index - 1
      let number = numbers.major == 0 ? (0, 0) : (numbers.major, numbers.minor + UInt32(minor))
      try publish(nodes[index], session, number: number)
    }
  }

  package var counts: Counts {
    let calls = resources.limiter.counts
    return Counts(
      files: sessions.map { ($0.node, $0.fileCount) }, running: calls.running,
      waiting: calls.waiting, threads: sessions.reduce(0) { $0 + $1.threadCount })
  }

  /// Starts no further call, and waits up to `seconds` for the calls that run.
  package func quiesce(waitingFor seconds: Int = 5) {
    resources.limiter.stop(waitingFor: seconds)
  }

  // MARK: Nodes

  /// Makes the node of `session`, and sets its mode and group.
  ///
  /// When a name or number is taken, the kernel ends the connection and reports no reason. The
  /// server therefore checks the node: it must not exist before, must appear, and must lead to this
  /// session.
  private func publish(
    _ node: Node, _ session: CUSESession, number: (major: UInt32, minor: UInt32)
  ) throws(StartError) {
    let path = session.node
    var status = stat()
    guard lstat(path, &status) != 0 else {
      throw StartError(description: "\(path) exists already")
    }
    do {
      try session.connect(number: number)
    } catch {
      throw Self.explain(error, connecting: session)
    }
    for _ in 0..<2_000 where stat(path, &status) != 0 {
      guard !session.hasEnded else {
        throw StartError(
          description: "\(path): the kernel refused the device; is its name or number taken?")
      }
      usleep(5_000)
    }
    guard stat(path, &status) == 0 else {
      throw StartError(description: "\(path): the node did not appear within 10 seconds")
    }
    guard status.st_mode & S_IFMT == S_IFCHR, reachesThisServer(path) else {
      throw StartError(description: "\(path) is the node of another device")
    }
    resources.nodes.insert(deviceNumber: UInt(status.st_rdev))
    // Only root may give a node to a group. Servers that are not root exist in tests only.
    guard chown(path, 0, node.group) == 0 || geteuid() != 0, chmod(path, node.mode) == 0 else {
      throw StartError(
        description: "\(path): cannot set group and mode: \(Errno(rawValue: errno))")
    }
  }

  /// Whether an open of `path` arrives at a session of this server.
  private func reachesThisServer(_ path: String) -> Bool {
    let opened: Void? = try? UnsharedTable.run { [resources] () throws(Errno) in
      _ = try resources.expectedOpens.open(path, expecting: PendingFile(ProbeFile()))
    }
    return opened != nil
  }

  private static func explain(_ error: Errno, connecting session: CUSESession) -> StartError {
    let reason =
      switch error {
      case .noSuchFileOrDirectory, .noSuchAddressOrDevice, .operationNotSupportedByDevice:
        "there is no /dev/cuse: load the module (modprobe cuse)"
      case .permissionDenied, .notPermitted:
        "/dev/cuse cannot be opened: \(error). Serving needs root"
      default:
        "\(error)"
      }
    return StartError(description: "\(session.node): \(reason)")
  }
}

/// The file that this server opens on a node to find out whether the node is its own.
private final class ProbeFile: OpenFile {
  func release() {}
}

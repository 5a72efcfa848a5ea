// SPDX-License-Identifier: Apache-2.0

internal import FrontEnd
internal import Glibc
package import Host
package import Logging
internal import Synchronization
internal import SystemPackage

/// A process that serves nodes until a signal ends it.
///
///     SIGTERM, SIGINT, SIGHUP   end the process: running calls finish, the nodes go, status 0
///     SIGUSR1                   writes one line of counts to the log
///
/// The process is ready when every node can be opened. It then notifies systemd (NOTIFY_SOCKET),
/// writes a line to the log and calls `whenReady`.
package struct ServerProcess: Sendable {
  package var nodes: [CUSEServer.Node]
  /// See ``CUSEServer``.
  package var queueName: String
  /// See ``CUSEServer``.
  package var numbers: (major: UInt32, minor: UInt32)
  /// A file for the id of the process, written when the process is ready and removed when a signal
  /// ends it.
  package var pidFile: String?
  /// See ``GrantedCapabilities``.
  package var grants: Set<Capability>
  /// See ``CUSEServer``.
  package var processEnds: (@Sendable (AddressSpace) -> Void)?
  /// See ``CUSEServer``.
  package var pinsExactly: Bool
  package var log: Logger

  package init(
    nodes: [CUSEServer.Node], queueName: String, numbers: (major: UInt32, minor: UInt32) = (0, 0),
    pidFile: String? = nil, grants: Set<Capability> = [],
    processEnds: (@Sendable (AddressSpace) -> Void)? = nil, pinsExactly: Bool = false, log: Logger
  ) {
    self.nodes = nodes
    self.queueName = queueName
    self.numbers = numbers
    self.pidFile = pidFile
    self.grants = grants
    self.processEnds = processEnds
    self.pinsExactly = pinsExactly
    self.log = log
  }

  /// Serves until a signal ends the process. The calling thread must be the only one of the
  /// process.
  /// - Returns: the exit status. The process must then exit, because its end removes the nodes.
  package func run(whenReady: () -> Void = {}) -> Int32 {
    var awaited = sigset_t()
    sigemptyset(&awaited)
    for number in [SIGTERM, SIGINT, SIGHUP, SIGUSR1] { sigaddset(&awaited, number) }
    // Blocked before the first thread starts. Threads inherit the mask, so only sigwait() gets
    // these signals.
    pthread_sigmask(SIG_BLOCK, &awaited, nil)
    signal(SIGPIPE, SIG_IGN)
    // Files and eventfds of clients take a descriptor each. A table of 65536 takes half a MiB.
    DescriptorLimit.useHardLimit(atMost: 65_536)
    let fractions = Shares.Fractions(user: 2, process: 2)
    ChargedShares.descriptors.divide(DescriptorLimit.forClients, fractions)
    ChargedShares.openFiles.divide(65_536, fractions)
    let tracer: Tracer
    do throws(Errno) {
      tracer = try Tracer()
    } catch {
      log.error("the tracer process cannot be started: \(error)")
      return 1
    }

    let lost = LostNode()
    let server = CUSEServer(
      nodes, queueName: queueName, numbers: numbers, grants: GrantedCapabilities(grants),
      tracer: tracer, log: log, pinsExactly: pinsExactly, processEnds: processEnds
    ) { lost.report($0) }
    do throws(CUSEServer.StartError) {
      try server.start()
    } catch {
      log.error("\(error)")
      return 1
    }
    writePidFile()
    log.notice("ready: \(nodes.map { "/dev/" + $0.name }.joined(separator: " "))")
    ServiceManager.notify("READY=1\nSTATUS=serving \(nodes.count) nodes")
    whenReady()

    var received: Int32 = 0
    repeat {
      if sigwait(&awaited, &received) == 0, received == SIGUSR1 { log.notice("\(server.counts)") }
    } while received == SIGUSR1 || received == 0

    ServiceManager.notify("STOPPING=1")
    if let path = lost.path { log.error("\(path): the kernel ended the device") }
    server.quiesce()
    if let pidFile { unlink(pidFile) }
    return lost.path == nil ? 0 : 1
  }

  private func writePidFile() {
    guard let pidFile else { return }
    guard let file = fopen(pidFile, "we") else {
      let error = Errno(rawValue: errno)
      log.warning("\(pidFile): the pid file cannot be written: \(error)")
      return
    }
    fputs("\(getpid())\n", file)
    fclose(file)
  }
}

/// The first node whose connection the kernel ended. The end of a node ends the process, whose main
/// thread waits for signals.
private final class LostNode: Sendable {
  private let first = Mutex<String?>(nil)

  var path: String? { first.withLock { $0 } }

  func report(_ path: String) {
    first.withLock { first in if first == nil { first = path } }
    kill(getpid(), SIGTERM)
  }
}

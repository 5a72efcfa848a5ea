// A process that serves nodes until it is told to end: signals, readiness, counts.
//
//   SIGTERM, SIGINT, SIGHUP   end: running calls finish, the nodes go, status 0
//   SIGUSR1                   writes one line of counts to the log
//
// Ready means that every node can be opened. It is told to systemd (NOTIFY_SOCKET), written to the
// log, and passed to `whenReady`.

internal import FrontEnd
internal import Glibc
package import Host
package import Logging
internal import Synchronization
internal import SystemPackage

package struct ServerProcess: Sendable {
  package var nodes: [CUSEServer.Node]
  package var queueName: String
  package var numbers: (major: UInt32, minor: UInt32)
  package var pidFile: String?
  /// See ``CUSEServer``.
  package var processEnds: (@Sendable (AddressSpace) -> Void)?
  package var log: Logger

  package init(
    nodes: [CUSEServer.Node], queueName: String, numbers: (major: UInt32, minor: UInt32) = (0, 0),
    pidFile: String? = nil, processEnds: (@Sendable (AddressSpace) -> Void)? = nil, log: Logger
  ) {
    self.nodes = nodes
    self.queueName = queueName
    self.numbers = numbers
    self.pidFile = pidFile
    self.processEnds = processEnds
    self.log = log
  }

  /// Serves on the calling thread, the process's only one, until a signal ends it.
  /// - Returns: the exit status. The process must then exit: its end is what removes the nodes.
  package func run(whenReady: () -> Void = {}) -> Int32 {
    var awaited = sigset_t()
    sigemptyset(&awaited)
    for number in [SIGTERM, SIGINT, SIGHUP, SIGUSR1] { sigaddset(&awaited, number) }
    // Blocked before the first thread starts, which inherits that: only sigwait() sees them.
    pthread_sigmask(SIG_BLOCK, &awaited, nil)
    signal(SIGPIPE, SIG_IGN)
    // Files and eventfds of clients take a descriptor each. A table of 65536 takes half a MiB.
    DescriptorLimit.useHardLimit(atMost: 65_536)
    let holder: Tracer
    do throws(Errno) {
      holder = try Tracer()
    } catch {
      log.error("no second process can be started: \(error)")
      return 1
    }

    let lost = LostNode()
    let server = CUSEServer(
      nodes, queueName: queueName, numbers: numbers, holder: holder, log: log,
      processEnds: processEnds
    ) { lost.report($0) }
    do throws(CUSEServer.Failure) {
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
      if sigwait(&awaited, &received) == 0, received == SIGUSR1 { log.notice("\(server.status)") }
    } while received == SIGUSR1 || received == 0

    ServiceManager.notify("STOPPING=1")
    if let path = lost.path { log.error("\(path): the kernel ended the device") }
    server.quiesce()
    if let pidFile { unlink(pidFile) }
    return lost.path == nil ? 0 : 1
  }

  /// Numbers kept for the connections, above all others.
  static let nodeLimit: Int32 = 256

  private func writePidFile() {
    guard let pidFile else { return }
    guard let file = fopen(pidFile, "we") else {
      log.warning("\(pidFile): cannot be written")
      return
    }
    fputs("\(getpid())\n", file)
    fclose(file)
  }
}

/// The first node that ended by itself. Its end ends the process, which waits for signals.
private final class LostNode: Sendable {
  private let first = Mutex<String?>(nil)

  var path: String? { first.withLock { $0 } }

  func report(_ path: String) {
    first.withLock { first in if first == nil { first = path } }
    kill(getpid(), SIGTERM)
  }
}

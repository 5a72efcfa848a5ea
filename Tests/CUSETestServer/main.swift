// cuse-testserver NAME [PIDFILE]: serves a CommandDevice as /dev/NAME and a MemoryDevice as
// /dev/NAME-nodes/memory0, for scripts/dev/test/cuse.

import CUSEFront
import Glibc
import Logging

guard CommandLine.arguments.count >= 2 else {
  print("usage: cuse-testserver NAME [PIDFILE]")
  exit(64)
}
let name = CommandLine.arguments[1]
LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
var log = Logger(label: "cuse-testserver")
log.logLevel = .notice
let counts = OpenCounts()
let process = ServerProcess(
  nodes: [
    CUSEServer.Node(CommandDevice(name: name, counts: counts), name: name, mode: 0o666, group: 0),
    CUSEServer.Node(
      MemoryDevice(name: "memory0"), name: "\(name)-nodes/memory0", mode: 0o640, group: 1),
  ],
  queueName: "\(name)-q", pidFile: CommandLine.arguments.dropFirst(2).first, log: log)
exit(process.run())

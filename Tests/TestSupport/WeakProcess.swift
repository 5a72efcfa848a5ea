// A process without capabilities and with a small RLIMIT_MEMLOCK, for clients that may not do everything.

internal import Glibc
package import Host
package import SystemPackage

package struct WeakProcess: Sendable {
  private let id: pid_t
  package var task: HostTask { HostTask(id: id) }

  /// - Throws: `.notPermitted` unless the tests run as root.
  package init(user: UInt32 = 65534) throws(Errno) {
    guard geteuid() == 0 else { throw .notPermitted }
    let command = "exec setpriv --reuid \(user) --clear-groups --inh-caps=-all sleep 600"
    var arguments: [UnsafeMutablePointer<CChar>?] =
      ["sh", "-c", command].map { (text: String) in strdup(text) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var process = pid_t()
    let result = posix_spawn(&process, "/bin/sh", nil, nil, &arguments, environ)
    guard result == 0 else { throw Errno(rawValue: result) }
    id = process
    // Until setpriv has done its work the process is as strong as we are.
    while true {
      let text = try ProcFile.read("/proc/\(id)/comm")
      if text == "sleep\n" { break }
      usleep(1000)
    }
  }

  package func end() {
    kill(id, SIGKILL)
    var status: Int32 = 0
    waitpid(id, &status, 0)
  }
}

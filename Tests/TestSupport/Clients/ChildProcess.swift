// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import Host
internal import SystemPackage

/// A child process that runs a shell command and then sleep(1) until the object is released.
package final class ChildProcess: Sendable {
  package let id: Int32
  private let input: Int32
  /// The numbers of clock_nanosleep() and nanosleep() on x86-64 and arm64.
  private static let sleepCalls: [Substring] = ["230", "35", "115", "101"]

  package var task: HostTask { HostTask(id: id) }

  /// - Parameters:
  ///   - command: A command of `sh` that ends with `exec sleep`. The empty command only sleeps.
  ///   - waits: Whether to return only when the process sleeps.
  package init(_ command: String = "", waits: Bool = true) throws {
    var ends: [Int32] = [0, 0]
    guard pipe(&ends) == 0 else { throw Errno(rawValue: errno) }
    input = ends[1]
    _ = fcntl(input, F_SETFD, FD_CLOEXEC)
    defer { Glibc.close(ends[0]) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends[0], 0)
    let script = command.isEmpty ? "exec sleep 600" : command
    var arguments = (["/bin/sh", "-c", script] as [String]).map { strdup($0) } + [nil]
    defer { arguments.forEach { free($0) } }
    var child: pid_t = 0
    let result = posix_spawn(&child, "/bin/sh", &actions, nil, &arguments, environ)
    guard result == 0 else { throw Errno(rawValue: result) }
    id = child
    if waits { try waitForSleep() }
  }

  /// Starts a process without capabilities that may lock `lockablePages` pages. The process runs as
  /// `user` when the tests run as root, and otherwise as the user of the tests.
  package static func unprivileged(user: UInt32, lockablePages: Int) throws -> ChildProcess {
    let become = geteuid() == 0 ? "setpriv --reuid=\(user) --clear-groups --inh-caps=-all " : ""
    let child = try ChildProcess(
      "exec \(become)sh -c 'while read limit; do ulimit -S -l $limit; done'", waits: false)
    try child.setLockablePages(lockablePages)
    return child
  }

  package func setLockablePages(_ pages: Int) throws {
    try send("\(pages * 4)\n")
    try waitUntil { try task.lockedMemoryLimit() == UInt64(pages * 4096) }
  }

  /// Ends a `read` of the command and waits until the process sleeps.
  package func proceed() throws {
    try send("\n")
    try waitForSleep()
  }

  private func send(_ line: String) throws {
    guard write(input, line, line.utf8.count) == line.utf8.count else {
      throw Errno(rawValue: errno)
    }
  }

  private func waitForSleep() throws {
    // A process that sleeps has mapped everything that it needs.
    try waitUntil {
      let call = try ProcFile.read("/proc/\(id)/syscall").prefix { $0 != " " }
      return try ProcFile.read("/proc/\(id)/comm") == "sleep\n" && Self.sleepCalls.contains(call)
    }
  }

  private func waitUntil(_ condition: () throws -> Bool) throws {
    for _ in 0..<5_000 {
      if try condition() { return }
      usleep(1_000)
    }
    throw Errno.timedOut
  }

  deinit {
    kill(id, SIGKILL)
    waitpid(id, nil, 0)
    Glibc.close(input)
  }
}

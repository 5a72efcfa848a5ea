// SPDX-License-Identifier: Apache-2.0

// `serve --daemon`: the process that serves runs in the background, and the process that started it
// waits until it is ready.
//
// The program starts itself a second time, in a new session and without --daemon, and waits until
// the new process writes one byte into a pipe. The new process reports errors on the standard error
// of the starter, and the starter exits with the status of the new process. fork(2) is not used:
// its child has only the calling thread, and the Swift runtime expects all threads of the parent.

internal import ArgumentParser
internal import Glibc
internal import Host

enum Daemon {
  /// The environment variable that tells the background process the descriptor of the pipe.
  private static let variable = "IOMMUFD_SIM_READY_FD"
  private static let readyDescriptor: Int32 = 3

  /// Starts this command in the background and waits until it is ready or has ended.
  /// - Returns: 0 when the background process is ready, otherwise its exit status.
  static func start() throws -> Int32 {
    var pipe: [Int32] = [-1, -1]
    guard Glibc.pipe(&pipe) == 0 else { throw failure("pipe") }
    let child = try spawn(reportingOn: pipe[1], closing: pipe[0])
    close(pipe[1])
    var byte: UInt8 = 0
    while true {
      let count = read(pipe[0], &byte, 1)
      if count == 1 { return 0 }
      if count < 0 && errno == EINTR { continue }
      break
    }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0 && errno == EINTR {}
    return status & 0x7f == 0 ? max(1, status >> 8 & 0xff) : 1
  }

  /// Lets the starter exit with status 0, and detaches this process from the starter's directory
  /// and terminal. Does nothing in a process that --daemon did not start.
  /// - Parameter keepingMessages: leaves standard error as it is.
  static func reportReady(keepingMessages: Bool) {
    guard let text = getenv(variable), let descriptor = Int32(String(cString: text)) else { return }
    unsetenv(variable)
    _ = chdir("/")
    let null = open("/dev/null", O_RDWR | O_CLOEXEC)
    if null >= 0 {
      dup2(null, 1)
      if !keepingMessages { dup2(null, 2) }
      close(null)
    }
    var byte = UInt8(ascii: "R")
    _ = write(descriptor, &byte, 1)
    close(descriptor)
  }

  /// Redirects standard error to the end of the file at `path`.
  static func redirectMessages(to path: String) throws {
    let file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw failure(path) }
    dup2(file, 2)
    close(file)
  }

  /// Returns `path` as an absolute path. ``reportReady(keepingMessages:)`` changes the working
  /// directory.
  static func absolute(_ path: String) -> String {
    guard !path.hasPrefix("/"), let directory = getcwd(nil, 0) else { return path }
    defer { free(directory) }
    return String(cString: directory) + "/" + path
  }

  private static func spawn(reportingOn report: Int32, closing other: Int32) throws -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    if other != readyDescriptor { posix_spawn_file_actions_addclose(&actions, other) }
    posix_spawn_file_actions_adddup2(&actions, report, readyDescriptor)
    if report != readyDescriptor { posix_spawn_file_actions_addclose(&actions, report) }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    let newSession: Int16 = 0x80  // POSIX_SPAWN_SETSID
    posix_spawnattr_setflags(&attributes, newSession)

    setenv(variable, "\(readyDescriptor)", 1)
    let words = ["iommufd-sim"] + ProgramStart.arguments.filter { $0 != "--daemon" }
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var child = pid_t()
    let error = posix_spawn(&child, "/proc/self/exe", &actions, &attributes, &arguments, environ)
    guard error == 0 else {
      errno = error
      throw failure("posix_spawn")
    }
    return child
  }

  private static func failure(_ what: String) -> ValidationError {
    ValidationError("\(what): \(String(cString: strerror(errno)))")
  }
}

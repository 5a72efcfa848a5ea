// Threads with a table of descriptors of their own.
//
// An ioctl on a copy of a client's descriptor of one of our nodes, and its last close, wait for this
// server itself. If the server is killed in that moment the waiting thread cannot end, and neither
// could the process: it still holds the connection whose end would wake the thread, and nothing but
// the kernel's `abort` file gets out of that. A thread that has left the shared table holds no
// connection, so the shared table, and with it the connections, goes whatever it waits for.

internal import CLinux
internal import Glibc
internal import SystemPackage

enum OwnTable {
  /// Runs `body` on a thread that shares no descriptor above standard error with this process, and
  /// waits for it. What `body` opens must be closed in it.
  /// - Throws: `.resourceTemporarilyUnavailable` when no such thread can be had.
  static func run<Result: Sendable>(
    _ body: @escaping @Sendable () throws(Errno) -> Result
  ) throws(Errno) -> Result {
    let visit = Visit(body)
    let context = Unmanaged.passRetained(visit as Visitor)
    var thread = pthread_t()
    guard pthread_create(&thread, nil, leaveSharedTable, context.toOpaque()) == 0 else {
      context.release()
      throw .resourceTemporarilyUnavailable
    }
    pthread_join(thread, nil)
    guard let result = visit.result else { throw .resourceTemporarilyUnavailable }
    return try result.get()
  }
}

/// What the thread does, whatever its result is.
private class Visitor: @unchecked Sendable {
  func visit() {}
}

private final class Visit<Result: Sendable>: Visitor, @unchecked Sendable {
  private let body: @Sendable () throws(Errno) -> Result
  /// Written by the thread, read after it was joined.
  private(set) var result: Swift.Result<Result, Errno>?

  init(_ body: @escaping @Sendable () throws(Errno) -> Result) {
    self.body = body
  }

  override func visit() {
    do throws(Errno) {
      result = .success(try body())
    } catch {
      result = .failure(error)
    }
  }
}

// A free function for the reason given at runThread().
private func leaveSharedTable(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let context else { return nil }
  let visitor = Unmanaged<Visitor>.fromOpaque(context).takeRetainedValue()
  CLinux_set_thread_name("identify")
  if CLinux_leave_descriptors(3) == 0 { visitor.visit() }
  return nil
}

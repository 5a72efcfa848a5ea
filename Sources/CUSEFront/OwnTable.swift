// Threads with a table of descriptors of their own.
//
// Some system calls wait for this server itself: an open of one of our nodes, an ioctl on a copy of
// a client's descriptor of one, the last close of it. If the server is killed in that moment the
// waiting thread cannot end, and neither could the process: it still holds the connection whose end
// would wake the thread, and nothing but the kernel's `abort` file gets out of that. A thread that
// has left the shared table holds no connection, so the shared table, and with it the connections,
// goes whatever it waits for. Every such call is therefore made here.

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage

enum OwnTable {
  /// Runs `body` on a thread that shares no descriptor above standard error with this process, and
  /// waits for it. What `body` opens must be closed in it.
  /// - Throws: `.resourceTemporarilyUnavailable` when no such thread can be had.
  static func run<Result: Sendable>(
    _ body: @escaping @Sendable () throws(Errno) -> Result
  ) throws(Errno) -> Result {
    try Visit { (_) throws(Errno) -> Result in try body() }.result()
  }

  /// In `run`: a copy of what is `descriptor` in the shared table.
  static func copy(of descriptor: Int32) throws(Errno) -> OwnedDescriptor {
    try HostTask(id: getpid()).duplicateDescriptor(descriptor)
  }

  /// Closes a descriptor of this process so that only an own table waits for what that entails: a
  /// thread with such a table has a second reference while the shared table gives up the first.
  static func close(_ descriptor: Int32) {
    let isGivenUp = ThreadSemaphore()
    let visit: Visit<Void>
    do throws(Errno) {
      visit = try Visit { (hasArrived) throws(Errno) in
        let copy = try copy(of: descriptor)
        hasArrived.signal()
        isGivenUp.wait()
        withExtendedLifetime(copy) {}
      }
    } catch {
      Glibc.close(descriptor)
      return
    }
    visit.awaitArrival()
    // Not the last reference any more, unless there was no way to have another.
    Glibc.close(descriptor)
    isGivenUp.signal()
    _ = try? visit.result()
  }
}

/// One thread in a table of its own, from its start to its result.
private final class Visit<Result: Sendable>: Visitor, @unchecked Sendable {
  typealias Body = @Sendable (_ hasArrived: ThreadSemaphore) throws(Errno) -> Result

  private let body: Body
  private let hasArrived = ThreadSemaphore()
  private var thread = pthread_t()
  /// Written by the thread, read after it was joined; nil when it could not leave the shared table.
  private var outcome: Swift.Result<Result, Errno>?

  init(_ body: @escaping Body) throws(Errno) {
    self.body = body
    super.init()
    let context = Unmanaged.passRetained(self as Visitor)
    guard pthread_create(&thread, nil, visitOwnTable, context.toOpaque()) == 0 else {
      context.release()
      throw .resourceTemporarilyUnavailable
    }
  }

  /// Waits until the body has said so, or has ended.
  func awaitArrival() { hasArrived.wait() }

  /// Waits for the end. To be called once.
  func result() throws(Errno) -> Result {
    pthread_join(thread, nil)
    guard let outcome else { throw .resourceTemporarilyUnavailable }
    return try outcome.get()
  }

  override func visit() {
    defer { hasArrived.signal() }
    guard CLinux_leave_descriptors(3) == 0 else { return }
    do throws(Errno) {
      outcome = .success(try body(hasArrived))
    } catch {
      outcome = .failure(error)
    }
  }
}

/// What the thread does, whatever its result is.
private class Visitor: @unchecked Sendable {
  func visit() {}
}

// A free function for the reason given at runThread().
private func visitOwnTable(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let context else { return nil }
  CLinux_set_thread_name("own table")
  Unmanaged<Visitor>.fromOpaque(context).takeRetainedValue().visit()
  return nil
}

// Threads with a table of descriptors of their own.
//
// An ioctl on a copy of a client's descriptor of one of our nodes, and its last close, wait for this
// server itself. If the server is killed in that moment the waiting thread cannot end, and neither
// could the process: it still holds the connection whose end would wake the thread, and nothing but
// the kernel's `abort` file gets out of that. A thread that has left the shared table holds no
// connection, so the shared table, and with it the connections, goes whatever it waits for.

internal import CLinux
internal import Glibc
internal import Host
internal import Synchronization
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

extension OwnTable {
  /// Closes a descriptor of this process so that only an own table waits for what that entails.
  static func close(_ descriptor: Int32) {
    let handover = DescriptorHandover()
    let closer = Closing(descriptor, handover)
    let context = Unmanaged.passRetained(closer as Visitor)
    var thread = pthread_t()
    guard pthread_create(&thread, nil, leaveSharedTable, context.toOpaque()) == 0 else {
      context.release()
      Glibc.close(descriptor)
      return
    }
    handover.awaitTaken()
    // Not the last reference any more, unless there was no way to take it.
    Glibc.close(descriptor)
    handover.give()
    pthread_join(thread, nil)
  }
}

/// Two threads' agreement on who closes a descriptor last. Each step takes microseconds.
private final class DescriptorHandover: Sendable {
  private let isTaken = Atomic(false)
  private let isGiven = Atomic(false)

  func take() { isTaken.store(true, ordering: .releasing) }
  func give() { isGiven.store(true, ordering: .releasing) }
  func awaitTaken() { while !isTaken.load(ordering: .acquiring) { usleep(20) } }
  func awaitGiven() { while !isGiven.load(ordering: .acquiring) { usleep(20) } }
}

private final class Closing: Visitor, @unchecked Sendable {
  private let descriptor: Int32
  private let handover: DescriptorHandover

  init(_ descriptor: Int32, _ handover: DescriptorHandover) {
    self.descriptor = descriptor
    self.handover = handover
  }

  override func visit() {
    let copy = try? HostTask(id: getpid()).duplicateDescriptor(descriptor)
    handover.take()
    handover.awaitGiven()
    withExtendedLifetime(copy) {}
  }

  override func cannotVisit() {
    handover.take()
  }
}

/// What the thread does, whatever its result is.
private class Visitor: @unchecked Sendable {
  func visit() {}
  /// The thread could not leave the shared table.
  func cannotVisit() {}
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
  if CLinux_leave_descriptors(3) == 0 { visitor.visit() } else { visitor.cannotVisit() }
  return nil
}

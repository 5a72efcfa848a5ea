internal import CLinux
internal import Glibc

/// Runs `body` on a new, detached thread, which /proc shows as `name`. Signals stay where they are: the
/// process's main thread has blocked those it waits for, and threads inherit that.
/// - Parameter stackSize: bytes; nil: the host's default.
/// - Returns: false when there is no thread to be had.
@discardableResult
package func startThread(
  named name: String, stackSize: Int? = nil, _ body: @escaping @Sendable () -> Void
) -> Bool {
  var attributes = pthread_attr_t()
  pthread_attr_init(&attributes)
  defer { pthread_attr_destroy(&attributes) }
  pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
  if let stackSize { pthread_attr_setstacksize(&attributes, stackSize) }
  let context = Unmanaged.passRetained(ThreadBody(name: name, body: body))
  var thread = pthread_t()
  guard pthread_create(&thread, &attributes, runThread, context.toOpaque()) == 0 else {
    context.release()
    return false
  }
  return true
}

private final class ThreadBody: Sendable {
  let name: String
  let body: @Sendable () -> Void
  init(name: String, body: @escaping @Sendable () -> Void) {
    self.name = name
    self.body = body
  }
}

// A free function, not a closure: a closure written in a main-actor context would carry that
// isolation, and stop the program when it runs on any other thread.
private func runThread(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let context else { return nil }
  let thread = Unmanaged<ThreadBody>.fromOpaque(context).takeRetainedValue()
  CLinux_set_thread_name(thread.name)
  thread.body()
  return nil
}

// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc

/// Runs `body` on a new, detached thread. The thread inherits the signal mask of its creator, and
/// the main thread has blocked the signals that it waits for.
/// - Parameters:
///   - name: what /proc/<pid>/task/<tid>/comm shows; the kernel keeps 15 bytes.
///   - stackSize: bytes. The host's default is the soft RLIMIT_STACK of this process's parent,
///     which may be too small.
/// - Returns: false when the host cannot create a thread.
@discardableResult
package func startThread(
  named name: String, stackSize: Int = 1 << 20, _ body: @escaping @Sendable () -> Void
) -> Bool {
  var attributes = pthread_attr_t()
  pthread_attr_init(&attributes)
  defer { pthread_attr_destroy(&attributes) }
  pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
  pthread_attr_setstacksize(&attributes, stackSize)
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

// A free function, not a closure: a closure that is written in a main-actor context inherits that
// isolation, and Swift's executor check stops the program when the closure runs on another thread.
private func runThread(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let context else { return nil }
  let thread = Unmanaged<ThreadBody>.fromOpaque(context).takeRetainedValue()
  CLinux_set_thread_name(thread.name)
  thread.body()
  return nil
}

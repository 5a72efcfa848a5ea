internal import CLinux
internal import Glibc

/// Starts a detached thread. Signals stay where they are: the process's main thread has blocked
/// those it waits for, and threads inherit that.
@discardableResult
func startThread(named name: String, _ body: @escaping @Sendable () -> Void) -> Bool {
  let context = Unmanaged.passRetained(ThreadBody(name: name, body: body))
  var thread = pthread_t()
  guard pthread_create(&thread, nil, runThread, context.toOpaque()) == 0 else {
    context.release()
    return false
  }
  pthread_detach(thread)
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

/// One thread tells another that it may go on (sem_overview(7)).
final class Semaphore: @unchecked Sendable {
  private let raw: UnsafeMutablePointer<sem_t>

  init() {
    raw = .allocate(capacity: 1)
    sem_init(raw, 0, 0)
  }

  deinit {
    sem_destroy(raw)
    raw.deallocate()
  }

  func signal() { sem_post(raw) }

  func wait() { while sem_wait(raw) != 0 && errno == EINTR {} }
}

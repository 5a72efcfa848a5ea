internal import Glibc

private final class ThreadBody {
  let run: @Sendable () -> Void
  init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

/// Runs `body` on a new, detached thread.
/// - Returns: false when there is none to be had.
@discardableResult
func startThread(_ body: @escaping @Sendable () -> Void) -> Bool {
  var thread = pthread_t()
  let argument = Unmanaged.passRetained(ThreadBody(body))
  let result = pthread_create(&thread, nil, runThreadBody, argument.toOpaque())
  if result == 0 { pthread_detach(thread) } else { argument.release() }
  return result == 0
}

private func runThreadBody(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let argument else { return nil }
  Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run()
  return nil
}

// poll(2) on a node: the kernel asks once, gives a handle, and sleeps until it is told to ask again.
// Only the newest handle is kept. Telling it is done once, then the handle is spent: the kernel
// gives a new one with its next question.

internal import CFuse3
internal import Synchronization

final class PollWaker: Sendable {
  private struct Handle: @unchecked Sendable {
    var raw: OpaquePointer?
  }

  private let newest = Mutex(Handle())

  /// Keeps `handle` for the next ``wake()``. Must come before readiness is looked at, so that a
  /// change in between is not lost.
  func keep(_ handle: OpaquePointer?) {
    guard let handle else { return }
    discard(exchange(handle))
  }

  /// The readiness may have changed.
  func wake() {
    guard let handle = exchange(nil) else { return }
    fuse_lowlevel_notify_poll(handle)
    discard(handle)
  }

  /// The file is gone.
  func end() {
    discard(exchange(nil))
  }

  private func exchange(_ handle: OpaquePointer?) -> OpaquePointer? {
    let next = Handle(raw: handle)
    return newest.withLock { newest in
      let last = newest
      newest = next
      return last
    }.raw
  }

  private func discard(_ handle: OpaquePointer?) {
    if let handle { fuse_pollhandle_destroy(handle) }
  }
}

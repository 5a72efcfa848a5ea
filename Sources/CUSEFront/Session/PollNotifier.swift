// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import Synchronization

/// The poll handle of one open file.
///
/// For poll(2) on a node, the kernel asks the server once for the readiness, passes a poll handle,
/// and sleeps until the server notifies that handle. A handle can be notified once; the kernel
/// passes a new one with its next question. Only the newest handle is kept.
final class PollNotifier: Sendable {
  private struct Handle: @unchecked Sendable {
    var raw: OpaquePointer?
  }

  private let newest = Mutex(Handle())

  /// Stores `handle` for the next ``notify()``. To be called before the readiness is computed, so
  /// that a change in between is not lost.
  func store(_ handle: OpaquePointer?) {
    guard let handle else { return }
    destroy(exchange(handle))
  }

  /// Makes the kernel ask again, because the readiness may have changed.
  func notify() {
    guard let handle = exchange(nil) else { return }
    fuse_lowlevel_notify_poll(handle)
    destroy(handle)
  }

  /// Destroys the handle without a notification, because the file is released.
  func discard() {
    destroy(exchange(nil))
  }

  private func exchange(_ handle: OpaquePointer?) -> OpaquePointer? {
    let next = Handle(raw: handle)
    return newest.withLock { newest in
      let last = newest
      newest = next
      return last
    }.raw
  }

  private func destroy(_ handle: OpaquePointer?) {
    if let handle { fuse_pollhandle_destroy(handle) }
  }
}

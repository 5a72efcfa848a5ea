// SPDX-License-Identifier: Apache-2.0

// Calls a handler whenever a client's eventfd is signalled (Linux: drivers/vfio/virqfd.c). The
// kernel adds a callback to the eventfd's wait queue. A process can only use epoll, so a thread
// waits for the eventfds of a watcher, as long as it has any.
//
// A handler may take long: the register write of a doorbell performs DMA, which may wait for memory
// of the client. So each opened device has a watcher of its own.
//
// At most one call of a watch's handler runs at any time, and none after `cancel()` has returned.
// So a handler must not cancel its own watch, and a caller of `cancel()` must not hold a lock that
// the handler takes.

internal import CLinux
internal import Glibc
internal import Synchronization
package import SystemPackage

package final class EventWatcher: Sendable {
  private let state = Mutex(State())

  private struct State {
    /// The thread that waits. `nil` while there is no watch.
    var waiter: EventWaiter?
    var watches: [UInt64: EventWatch] = [:]
    var nextKey = EventWaiter.endKey + 1
  }

  package init() {}

  /// Calls `handler` on the watching thread for every signal of `event` until the watch is
  /// cancelled. A counter that is above 0 at the time of the call counts as a signal.
  /// - Throws: `.noMemory`, `.tooManyOpenFilesInSystem`, or another errno of epoll_create1(2) and
  ///   epoll_ctl(2); `.resourceTemporarilyUnavailable` when the host cannot create the thread.
  package func watch(
    _ event: EventDescriptor, _ handler: @escaping @Sendable () -> Void
  ) throws(Errno) -> EventWatch {
    try state.withLock { state throws(Errno) in
      let waiter: EventWaiter
      if let running = state.waiter { waiter = running } else { waiter = try startWaiter() }
      let watch = EventWatch(key: state.nextKey, event: event, handler: handler, watcher: self)
      do throws(Errno) {
        try waiter.add(event.rawValue, key: watch.key)
      } catch {
        if state.waiter == nil { waiter.end() }
        throw error
      }
      state.waiter = waiter
      state.nextKey += 1
      state.watches[watch.key] = watch
      return watch
    }
  }

  fileprivate func remove(_ watch: EventWatch) {
    state.withLock { state in
      guard state.watches.removeValue(forKey: watch.key) != nil else { return }
      state.waiter?.remove(watch.event.rawValue)
      guard state.watches.isEmpty else { return }
      state.waiter?.end()
      state.waiter = nil
    }
  }

  private func startWaiter() throws(Errno) -> EventWaiter {
    let waiter = try EventWaiter()
    let isStarted = startThread(named: "eventfd-watcher") { [self] in
      while let key = waiter.wait() { state.withLock { $0.watches[key] }?.fire() }
    }
    guard isStarted else { throw .resourceTemporarilyUnavailable }
    return waiter
  }
}

/// The epoll set of a watcher's thread.
private final class EventWaiter: Sendable {
  /// The key of the eventfd that ends the thread.
  static let endKey: UInt64 = 0

  private let epoll: OwnedDescriptor
  private let ending: OwnedDescriptor

  init() throws(Errno) {
    epoll = try OwnedDescriptor(checking: CLinux_epoll_create())
    let descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    ending = try OwnedDescriptor(checking: descriptor < 0 ? -errno : descriptor)
    try add(ending.rawValue, key: Self.endKey)
  }

  func add(_ descriptor: Int32, key: UInt64) throws(Errno) {
    let failure = CLinux_epoll_add(epoll.rawValue, descriptor, key)
    guard failure == 0 else { throw Errno(rawValue: -failure) }
  }

  func remove(_ descriptor: Int32) { _ = CLinux_epoll_remove(epoll.rawValue, descriptor) }

  /// Makes ``wait()`` return `nil`, now or at its next call.
  func end() {
    var one: UInt64 = 1
    Glibc.write(ending.rawValue, &one, 8)
  }

  /// Waits for a descriptor that is readable.
  /// - Returns: its key; `nil` after ``end()``.
  func wait() -> UInt64? {
    var key: UInt64 = 0
    while CLinux_epoll_wait(epoll.rawValue, &key) != 0 {}
    return key == Self.endKey ? nil : key
  }
}

/// An eventfd and its handler (Linux: struct virqfd).
package final class EventWatch: Sendable {
  fileprivate let key: UInt64
  package let event: EventDescriptor
  private let watcher: EventWatcher
  private let handler: Mutex<Handler>

  /// The closure is a member of a struct, so that an access by `inout` does not wrap it.
  private struct Handler {
    /// `nil` after the watch is cancelled.
    var call: (@Sendable () -> Void)?
  }

  fileprivate init(
    key: UInt64, event: EventDescriptor, handler: @escaping @Sendable () -> Void,
    watcher: EventWatcher
  ) {
    self.key = key
    self.event = event
    self.handler = Mutex(Handler(call: handler))
    self.watcher = watcher
  }

  fileprivate func fire() {
    guard event.consume() else { return }
    handler.withLock { $0.call?() }
  }

  /// Ends the watch. The handler does not run any more when this function returns.
  package func cancel() {
    watcher.remove(self)
    handler.withLock { $0.call = nil }
  }
}

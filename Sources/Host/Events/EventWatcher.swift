// SPDX-License-Identifier: Apache-2.0

// Calls a handler whenever a client's eventfd is signalled (Linux: drivers/vfio/virqfd.c). The
// kernel adds a callback to the eventfd's wait queue. A process can only use epoll, so one thread
// serves all watches of this process. The first watch starts the thread.
//
// At most one call of a watch's handler runs at any time, and none after `cancel()` has returned.
// So a handler must not cancel its own watch, and a caller of `cancel()` must not hold a lock that
// the handler takes.

internal import CLinux
internal import Glibc
internal import Synchronization
package import SystemPackage

package final class EventWatcher: Sendable {
  package static let shared = EventWatcher()

  private let state = Mutex(State())

  private struct State {
    var epoll: Int32 = -1
    var watches: [UInt64: EventWatch] = [:]
    var nextKey: UInt64 = 1
  }

  /// Calls `handler` on the watching thread for every signal of `event` until the watch is
  /// cancelled. A counter that is above 0 at the time of the call counts as a signal.
  /// - Throws: `.noMemory`, `.tooManyOpenFilesInSystem`, or another errno of epoll_create1(2) and
  ///   epoll_ctl(2); `.resourceTemporarilyUnavailable` when the host cannot create the thread.
  package func watch(
    _ event: EventDescriptor, _ handler: @escaping @Sendable () -> Void
  ) throws(Errno) -> EventWatch {
    try state.withLock { state throws(Errno) in
      try startIfNeeded(&state)
      let watch = EventWatch(key: state.nextKey, event: event, handler: handler, watcher: self)
      let failure = CLinux_epoll_add(state.epoll, event.rawValue, watch.key)
      guard failure == 0 else { throw Errno(rawValue: -failure) }
      state.nextKey += 1
      state.watches[watch.key] = watch
      return watch
    }
  }

  fileprivate func remove(_ watch: EventWatch) {
    state.withLock { state in
      guard state.watches.removeValue(forKey: watch.key) != nil else { return }
      _ = CLinux_epoll_remove(state.epoll, watch.event.rawValue)
    }
  }

  private func startIfNeeded(_ state: inout State) throws(Errno) {
    guard state.epoll < 0 else { return }
    let epoll = CLinux_epoll_create()
    guard epoll >= 0 else { throw Errno(rawValue: -epoll) }
    guard startThread(named: "eventfd-watcher", { [self] in serveEvents(of: epoll) }) else {
      close(epoll)
      throw .resourceTemporarilyUnavailable
    }
    state.epoll = epoll
  }

  private func serveEvents(of epoll: Int32) {
    var key: UInt64 = 0
    while true {
      guard CLinux_epoll_wait(epoll, &key) == 0 else { continue }
      state.withLock { $0.watches[key] }?.fire()
    }
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

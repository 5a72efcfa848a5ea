// Calls a function whenever a client's eventfd is signalled (drivers/vfio/virqfd.c). The kernel hooks
// the eventfd's wait queue; a process can only ask epoll, so one thread, started with the first
// watch, serves everybody in the process.
//
// A watch has at most one call of its handler running, and none any more once `cancel()` has
// returned. A handler must not cancel its own watch, nor may a lock that a handler takes be held
// over `cancel()`.

internal import CLinux
internal import Glibc
internal import Synchronization
package import SystemPackage

package final class EventWatcher: Sendable {
  package static let shared = EventWatcher()

  private let state = Mutex(State())

  private struct State {
    var epoll: Int32 = -1
    var watches: [UInt64: Watch] = [:]
    var nextKey: UInt64 = 1
  }

  /// Calls `handler` for every signal of `event` until the watch is cancelled. A signal that is
  /// already there counts as the first.
  /// - Throws: `.noMemory`, `.tooManyOpenFilesInSystem` and what else the host is short of.
  package func watch(
    _ event: EventDescriptor, _ handler: @escaping @Sendable () -> Void
  ) throws(Errno) -> Watch {
    try state.withLock { state throws(Errno) in
      try startIfNeeded(&state)
      let watch = Watch(key: state.nextKey, event: event, handler: handler, watcher: self)
      let failure = CLinux_epoll_add(state.epoll, event.rawValue, watch.key)
      guard failure == 0 else { throw Errno(rawValue: -failure) }
      state.nextKey += 1
      state.watches[watch.key] = watch
      return watch
    }
  }

  fileprivate func forget(_ watch: Watch) {
    state.withLock { state in
      guard state.watches.removeValue(forKey: watch.key) != nil else { return }
      _ = CLinux_epoll_remove(state.epoll, watch.event.rawValue)
    }
  }

  private func startIfNeeded(_ state: inout State) throws(Errno) {
    guard state.epoll < 0 else { return }
    let epoll = CLinux_epoll_create()
    guard epoll >= 0 else { throw Errno(rawValue: -epoll) }
    guard startThread(named: "events", { [self] in watch(epoll) }) else {
      close(epoll)
      throw .resourceTemporarilyUnavailable
    }
    state.epoll = epoll
  }

  private func watch(_ epoll: Int32) {
    var key: UInt64 = 0
    while true {
      guard CLinux_epoll_wait(epoll, &key) == 0 else { continue }
      state.withLock { $0.watches[key] }?.fire()
    }
  }
}

/// One eventfd that is being watched (struct virqfd).
package final class Watch: Sendable {
  fileprivate let key: UInt64
  package let event: EventDescriptor
  private let watcher: EventWatcher
  private let handler: Mutex<(@Sendable () -> Void)?>

  fileprivate init(
    key: UInt64, event: EventDescriptor, handler: @escaping @Sendable () -> Void,
    watcher: EventWatcher
  ) {
    self.key = key
    self.event = event
    self.handler = Mutex(handler)
    self.watcher = watcher
  }

  fileprivate func fire() {
    guard event.consume() else { return }
    handler.withLock { $0?() }
  }

  package func cancel() {
    watcher.forget(self)
    handler.withLock { $0 = nil }
  }
}

// How an invalidation waits for requests that are under way.
//
// A request holds its port's lock from before it looks at any table until its last byte has moved,
// and says in `using` which domain's translations it may hold. An invalidation that has removed
// translations of a domain then passes every gate: a request that uses another domain, or none, is no
// concern; one that uses the domain is waited for. A request that begins later finds the caches
// empty and the tables changed.
//
// The guarantee: when a client's memory stalls a copy (userfaultfd, a FUSE file), what waits is that
// port, and invalidations of the domain that the stalled request goes through. Requests of other
// ports, and invalidations of other domains, never do.

internal import Glibc
internal import Synchronization

final class PortGate: Sendable {
  private static let idle: UInt32 = 0
  /// The domain is being looked up, in the unit's own tables: never for longer than a few loads.
  private static let resolving: UInt32 = 1
  /// Only translations of the function's own device TLB are used.
  private static let translated = UInt32.max

  let lock = Mutex<Void>(())
  private let using = Atomic<UInt32>(idle)

  /// A request begins; its domain is not known yet. The lock is held.
  @inline(__always)
  func begin() { using.store(Self.resolving, ordering: .relaxed) }

  /// The request goes on with translations of `domain` only. Called under the unit's lock, which
  /// orders it before or after any invalidation.
  @inline(__always)
  func use(_ domain: DomainID) { use(space: UInt32(domain.rawValue)) }

  /// The same for a unit that tells address spaces by other numbers, which are less than 2^31.
  @inline(__always)
  func use(space: UInt32) {
    using.store(space &+ 2, ordering: .relaxed)
  }

  /// The request goes on with translations that the function has itself.
  func useDeviceTLB() { using.store(Self.translated, ordering: .relaxed) }

  @inline(__always)
  func end() { using.store(Self.idle, ordering: .releasing) }

  /// Returns when no request that began before the call can hold translations of `space` (nil: any).
  func pass(space: UInt32?) {
    while true {
      let value = using.load(ordering: .acquiring)
      if value == Self.idle { return }
      if value == Self.resolving {
        sched_yield()
        continue
      }
      if let space, value != space + 2 { return }
      lock.withLock { _ in }
      return
    }
  }
}

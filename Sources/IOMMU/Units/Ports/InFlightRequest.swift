// SPDX-License-Identifier: Apache-2.0

// The request that a port performs, as an invalidation sees it. Each `DMAPort` owns one.
//
// A port performs one request at a time. It holds `lock` from before the request reads any table
// until the last byte has moved, and stores in `using` which address space's translations the
// request may hold. An invalidation first removes entries from the caches and then calls
// `wait(for:)` for every port of the unit. That call returns at once when the port is idle or its
// request uses another address space, and acquires `lock` when the request uses the invalidated
// one. A request that begins later finds the caches empty and the tables changed.
//
// When a copy blocks in a client's memory (userfaultfd, a file on FUSE), two things wait for it:
// further requests of the same port, and invalidations of the address space that the blocked
// request uses. Requests of other ports and invalidations of other address spaces never wait.

internal import Glibc
internal import Synchronization

/// Identifies the translations that a request may hold to the invalidations that wait for it: a
/// domain ID in VT-d and AMD-Vi units, a number made of VMID and ASID in an SMMUv3.
struct InFlightKey: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
  /// Less than 2^31.
  let rawValue: UInt32

  @inline(__always)
  init(rawValue: UInt32) { self.rawValue = rawValue }

  @inline(__always)
  init(_ domain: DomainID) { rawValue = UInt32(domain.rawValue) }
}

/// The state of one port's current request.
final class InFlightRequest: Sendable {
  // The values of `using` that are not a key plus 2.
  private static let idle: UInt32 = 0
  /// The request is looking up its address space in the unit's own tables, which takes a few loads.
  private static let resolving: UInt32 = 1
  /// The request uses translations of the function's device TLB only.
  private static let translated = UInt32.max

  let lock = Mutex<Void>(())
  private let using = Atomic<UInt32>(idle)
  /// Whether the last request that could not use the fast path needed a page walk.
  private let walked = Atomic<Bool>(false)

  /// Marks the beginning of a request whose address space is not known yet. Requires `lock`.
  @inline(__always)
  func begin() { using.store(Self.resolving, ordering: .relaxed) }

  /// Declares that the request holds translations of `key` only from now on. Requires the unit's
  /// lock, which orders the call before or after any invalidation.
  @inline(__always)
  func use(_ key: InFlightKey) { using.store(key.rawValue &+ 2, ordering: .relaxed) }

  /// Declares that the request holds translations of the function's device TLB only from now on.
  func useDeviceTLB() { using.store(Self.translated, ordering: .relaxed) }

  /// Whether a look-up for a request within one page is worth its lock before the general path. A
  /// request that follows a walk probably misses too, and the general path looks up again.
  @inline(__always)
  var expectsHit: Bool { !walked.load(ordering: .relaxed) }

  /// Marks the beginning of the general path, which has not walked a page yet. Requires `lock`.
  @inline(__always)
  func beginGeneralPath() { walked.store(false, ordering: .relaxed) }

  /// Records that the request walked a page. Requires `lock`.
  @inline(__always)
  func didWalk() { walked.store(true, ordering: .relaxed) }

  /// Marks the end of the request.
  @inline(__always)
  func end() { using.store(Self.idle, ordering: .releasing) }

  /// Waits until no request that began before the call can hold translations of `key`.
  /// - Parameter key: `nil` waits for any request.
  func wait(for key: InFlightKey?) {
    while true {
      let value = using.load(ordering: .acquiring)
      if value == Self.idle { return }
      if value == Self.resolving {
        sched_yield()
        continue
      }
      if let key, value != key.rawValue + 2 { return }
      lock.withLock { _ in }
      return
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

// RLIMIT_MEMLOCK accounting of pinned pages.
//
// The kernel charges pinned pages to one of two counters. user_struct.locked_vm counts the pages
// that all iommufds of one real user ID pin. mm_struct.locked_vm counts the pages pinned from one
// address space, besides what its process locked with mlock(2). The option IOMMU_OPTION_RLIMIT_MODE
// of a context chooses the counter. Pages that a process with CAP_IPC_LOCK maps are not charged.
// The limit is that of the process that mapped the pages, at the time when the pages become pinned:
// by a MAP, by a COPY, or when a domain is added. Pages that are pinned already are not charged
// again.
//
// mm_struct.pinned_vm counts the pages pinned from an address space too, whichever counter they are
// charged to. It has no limit; /proc/<pid>/status shows it as VmPin.

internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// IOMMU_OPTION_RLIMIT_MODE of a context: the counter that pages of new mappings are charged to.
package enum PinAccountingMode: Sendable {
  /// user_struct.locked_vm
  case user
  /// mm_struct.locked_vm
  case process
}

/// The counters of pinned pages, for all users and address spaces that this server has clients of.
/// The locks are leaves.
package final class PinCounters: Sendable {
  /// A counter with a limit.
  enum Counter: Hashable {
    /// user_struct.locked_vm, by real user ID.
    case user(UInt32)
    /// mm_struct.locked_vm, as far as this server adds to it.
    case addressSpace(ObjectIdentifier)
  }

  private struct PinnedPages {
    let space: AddressSpace
    /// Less than 0 when more pages are unpinned than were pinned: CHANGE_PROCESS changes the
    /// address space of mappings that are not charged, and leaves the counters.
    var count: Int64
  }

  private struct PinnedCounters {
    var counters: [ObjectIdentifier: PinnedPages] = [:]
    /// The number of counters at which those of address spaces that are gone are removed.
    var sweepThreshold = 64
  }

  private let locked = Mutex<[Counter: UInt64]>([:])
  /// mm_struct.pinned_vm
  private let pinned = Mutex(PinnedCounters())

  package init() {}

  /// Adds `count` pages to a counter, unless it would then exceed `limit` pages.
  /// - Throws: `.noMemory`.
  func charge(_ count: UInt64, to counter: Counter, limit: UInt64) throws(Errno) {
    let isCharged = locked.withLock { locked in
      let (sum, overflow) = locked[counter, default: 0].addingReportingOverflow(count)
      guard !overflow, sum <= limit else { return false }
      locked[counter] = sum
      return true
    }
    guard isCharged else { throw .noMemory }
  }

  func uncharge(_ count: UInt64, from counter: Counter) {
    locked.withLock { locked in
      let old = locked[counter, default: 0]
      assert(old >= count, "more is uncharged than was charged")
      locked[counter] = old > count ? old - count : nil
    }
  }

  func addPinned(_ count: UInt64, from space: AddressSpace?) {
    changePinned(by: Int64(bitPattern: count), of: space)
  }

  func removePinned(_ count: UInt64, from space: AddressSpace?) {
    changePinned(by: -Int64(bitPattern: count), of: space)
  }

  private func changePinned(by change: Int64, of space: AddressSpace?) {
    guard change != 0, let space else { return }
    let key = ObjectIdentifier(space)
    pinned.withLock { pinned in
      if pinned.counters.count >= pinned.sweepThreshold {
        pinned.counters = pinned.counters.filter { !$0.value.space.isGone }
        pinned.sweepThreshold = max(64, 2 * pinned.counters.count)
      }
      let sum = (pinned.counters[key]?.count ?? 0) &+ change
      pinned.counters[key] = sum == 0 ? nil : PinnedPages(space: space, count: sum)
    }
  }

  /// Returns the pages that this server adds to VmPin and VmLck in /proc/<pid>/status of a process,
  /// modulo 2^64, and whether the host's kernel has counted some of them in VmPin itself.
  package func pages(
    ofProcess process: Int32
  ) -> (pinned: UInt64, locked: UInt64, areCountedByHost: Bool) {
    let spaces = pinned.withLock { Array($0.counters.values) }.filter {
      $0.space.isMemory(ofProcess: process)
    }
    return (
      UInt64(bitPattern: spaces.reduce(0) { $0 &+ $1.count }),
      spaces.reduce(0) { $0 + total(of: .addressSpace(ObjectIdentifier($1.space))) },
      spaces.contains { $0.space.pinning.isExact }
    )
  }

  /// The number of pages charged to a counter.
  func total(of counter: Counter) -> UInt64 { locked.withLock { $0[counter, default: 0] } }
}

/// The process that mapped pages, and the counter that they are charged to (iopt_pages: source_mm,
/// source_user, source_task, account_mode).
struct PinAccount {
  /// iopt_pages.account_mode
  enum Accounting: Equatable {
    /// Not charged: the process had CAP_IPC_LOCK.
    case none
    case user(UInt32)
    case addressSpace
  }

  let accounting: Accounting
  /// `nil` when the front end cannot open the client's address space. Such a client can map only
  /// files.
  let addressSpace: AddressSpace?
  /// The process whose RLIMIT_MEMLOCK counts.
  private let process: HostTask
  /// The limit in bytes at the time of the mapping, for use after the process has ended.
  private let lastKnownLimit: UInt64

  /// An account of the client of a call that maps. iommufd: iopt_alloc_pages(), iopt_map_common()
  init(
    _ client: any Client, mode: PinAccountingMode, needsAddressSpace: Bool
  ) throws(Errno) {
    let task = client.task
    let accounting: Accounting
    if client.isCapable(of: .ipcLock) {
      accounting = .none
    } else {
      switch mode {
      case .user: accounting = .user(try task.realUserID())
      case .process: accounting = .addressSpace
      }
    }
    let mustHave = needsAddressSpace || accounting == .addressSpace
    let space = mustHave ? try client.addressSpace() : try? client.addressSpace()
    self.init(task, accounting, space)
  }

  private init(_ task: HostTask, _ accounting: Accounting, _ addressSpace: AddressSpace?) {
    self.accounting = accounting
    self.addressSpace = addressSpace
    // The limit belongs to the process. The thread that maps may end earlier.
    process = accounting == .none ? task : (try? task.processID()).map(HostTask.init(id:)) ?? task
    lastKnownLimit = accounting == .none ? .max : (try? task.lockedMemoryLimit()) ?? 0
  }

  /// An account for memory that is not charged at all: a dma-buf.
  static func uncharged(_ client: any Client) -> PinAccount {
    PinAccount(client.task, .none, nil)
  }

  /// Returns the account after a transfer of the mappings to the process of `client`. The
  /// accounting mode stays, whatever the capabilities of the new process are. iommufd: change_mm()
  func transferred(to client: any Client) throws(Errno) -> PinAccount {
    let space = try client.addressSpace()
    var accounting = accounting
    if case .user = accounting { accounting = .user(try client.task.realUserID()) }
    return PinAccount(client.task, accounting, space)
  }

  /// Whether pinned pages must be charged anew when `new` replaces this account. In user mode that
  /// is also so when only the process changes, because pinned_vm is updated with the charge.
  /// iommufd: need_charge_update()
  func needsCharge(onChangeTo new: PinAccount) -> Bool {
    accounting != .none && (accounting != new.accounting || addressSpace !== new.addressSpace)
  }

  /// Whether ``uncharge(_:in:)`` reaches the counter in the kernel: mm_struct.locked_vm of an
  /// address space that is gone cannot be changed. iommufd: update_mm_locked_vm() when it decreases
  var canBeUncharged: Bool {
    accounting != .addressSpace || addressSpace?.isAbandoned == false
  }

  /// ``Accounting`` without the user.
  enum Kind {
    case none, user, addressSpace
  }

  var kind: Kind {
    switch accounting {
    case .none: .none
    case .user: .user
    case .addressSpace: .addressSpace
    }
  }

  // MARK: Charging

  /// Charges `pages` pages. An address space that is gone is charged like any other, within the
  /// last known limit of its process: the pages that can still be pinned then are pages of files.
  /// iommufd: update_mm_locked_vm() when it increases
  /// - Throws: `.noMemory` when the counter would exceed the limit.
  func charge(_ pages: UInt64, in counters: PinCounters) throws(Errno) {
    guard pages > 0 else { return }
    try FaultInjection.step()
    guard let counter else { return }
    try counters.charge(pages, to: counter, limit: pageLimit)
  }

  /// Returns whether ``charge(_:in:)`` of `pages` pages would succeed now.
  func allows(_ pages: UInt64, in counters: PinCounters) -> Bool {
    guard let counter else { return true }
    let (sum, overflow) = counters.total(of: counter).addingReportingOverflow(pages)
    return !overflow && sum <= pageLimit
  }

  /// The highest value of the counter.
  private var pageLimit: UInt64 {
    let limit = currentLimit >> 12
    guard accounting == .addressSpace else { return limit }
    let isGone = addressSpace?.isGone ?? true
    let locked = isGone ? 0 : (try? process.lockedMemory()) ?? 0
    return limit > locked >> 12 ? limit - locked >> 12 : 0
  }

  func uncharge(_ pages: UInt64, in counters: PinCounters) {
    guard pages > 0, let counter else { return }
    counters.uncharge(pages, from: counter)
  }

  /// `nil` when pages are not charged.
  private var counter: PinCounters.Counter? {
    switch accounting {
    case .none: nil
    case .user(let user): .user(user)
    case .addressSpace: addressSpace.map { .addressSpace(ObjectIdentifier($0)) }
    }
  }

  private var currentLimit: UInt64 {
    if let addressSpace, addressSpace.isGone { return lastKnownLimit }
    return (try? process.lockedMemoryLimit()) ?? lastKnownLimit
  }
}

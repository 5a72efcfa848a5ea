// Who pays for pinned pages: how much memory a client may keep locked, RLIMIT_MEMLOCK.
//
// The kernel has two books. A user's counts the pages of all iommufds of that real user id; an
// address space's counts what was pinned from it, beside what its process locked with mlock(2).
// Whoever mapped pages with CAP_IPC_LOCK pays nothing. The limit is that of the process that mapped
// the pages, as it is at the moment when pages become pinned: at MAP, at COPY, or when somebody
// attaches a domain. Pages that are pinned already are not paid for again.

internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

package enum PinAccounting {
  /// IOMMU_OPTION_RLIMIT_MODE of an open file.
  package enum Mode: Sendable {
    case user
    case process
  }
}

/// The books of the host: locked pages by user and by address space. Beside them, and whoever pays, how
/// many pages are pinned for the mappings of an address space, which limits nothing but can be seen.
package final class LockedMemory: Sendable {
  enum Account: Hashable {
    case user(UInt32)
    case addressSpace(ObjectIdentifier)
  }

  private struct Pins {
    let space: AddressSpace
    var pages: UInt64
  }

  private let pages = Mutex<[Account: UInt64]>([:])
  /// mm_struct.pinned_vm
  private let pins = Mutex<[ObjectIdentifier: Pins]>([:])

  package init() {}

  /// Books `count` pages, unless the account then holds more than `limit` pages.
  /// - Throws: `.noMemory`.
  func add(_ count: UInt64, to account: Account, limit: UInt64) throws(Errno) {
    let isGranted = pages.withLock { pages in
      let (sum, overflow) = pages[account, default: 0].addingReportingOverflow(count)
      guard !overflow, sum <= limit else { return false }
      pages[account] = sum
      return true
    }
    guard isGranted else { throw .noMemory }
  }

  func remove(_ count: UInt64, from account: Account) {
    pages.withLock { pages in
      let rest = pages[account, default: 0]
      assert(rest >= count, "more is removed than was added")
      pages[account] = rest > count ? rest - count : nil
    }
  }

  // MARK: What can be seen

  func notePins(_ count: UInt64, for space: AddressSpace?) {
    guard count > 0, let space else { return }
    pins.withLock {
      $0[ObjectIdentifier(space), default: Pins(space: space, pages: 0)].pages += count
    }
  }

  func noteRelease(of count: UInt64, for space: AddressSpace?) {
    guard count > 0, let space else { return }
    pins.withLock { pins in
      guard let old = pins[ObjectIdentifier(space)] else { return }
      assert(old.pages >= count, "more is unpinned than was pinned")
      pins[ObjectIdentifier(space)] =
        old.pages > count ? Pins(space: space, pages: old.pages - count) : nil
    }
  }

  /// Pages that are pinned for a process, and pages that count as locked by it: what VmPin and VmLck
  /// in /proc/<pid>/status have because of us.
  package func pages(ofProcess process: Int32) -> (pinned: UInt64, locked: UInt64) {
    let pins = pins.withLock { pins in
      pins.values.filter { $0.space.processID == process && !$0.space.isGone }
    }
    return (
      pins.reduce(0) { $0 + $1.pages },
      pins.reduce(0) { $0 + total(of: .addressSpace(ObjectIdentifier($1.space))) }
    )
  }

  /// Pages booked, for tests.
  func total(of account: Account) -> UInt64 { pages.withLock { $0[account, default: 0] } }
}

/// Who mapped pages and pays for them (iopt_pages: source_mm, source_user, source_task, account_mode).
struct PinAccount {
  enum Charge: Equatable {
    /// CAP_IPC_LOCK.
    case none
    case user(UInt32)
    case addressSpace
  }

  let charge: Charge
  /// Nil when the front end cannot open it; such a client can map files only.
  let addressSpace: AddressSpace?
  private let process: HostTask
  /// In bytes; for when the process has ended.
  private let lastKnownLimit: UInt64

  /// The client of a call that maps. iommufd: iopt_alloc_pages(), iopt_map_common()
  init(
    _ client: any Client, mode: PinAccounting.Mode, needsAddressSpace: Bool
  ) throws(Errno) {
    let task = client.task
    let charge: Charge
    if task.isCapable(of: .ipcLock) {
      charge = .none
    } else {
      switch mode {
      case .user: charge = .user(try task.realUserID())
      case .process: charge = .addressSpace
      }
    }
    let mustHave = needsAddressSpace || charge == .addressSpace
    let space = mustHave ? try client.addressSpace() : try? client.addressSpace()
    self.init(task, charge: charge, addressSpace: space)
  }

  private init(_ task: HostTask, charge: Charge, addressSpace: AddressSpace?) {
    self.charge = charge
    self.addressSpace = addressSpace
    // The limit is the process's; the thread may end.
    process = charge == .none ? task : (try? task.processID()).map(HostTask.init(id:)) ?? task
    lastKnownLimit = charge == .none ? .max : (try? task.lockedMemoryLimit()) ?? 0
  }

  /// For memory that nobody pays for.
  static func nobody(_ client: any Client) -> PinAccount {
    PinAccount(client.task, charge: .none, addressSpace: nil)
  }

  /// The client of a call that takes mappings over. A mapping keeps its kind of charge, whatever the
  /// new client is capable of. iommufd: change_mm()
  func succeeded(by client: any Client) throws(Errno) -> PinAccount {
    let space = try client.addressSpace()
    var charge = charge
    if case .user = charge { charge = .user(try client.task.realUserID()) }
    return PinAccount(client.task, charge: charge, addressSpace: space)
  }

  /// Whether `other` pays from another purse. Users also do when only the process changes, for the
  /// pages pinned are counted there, too. iommufd: need_charge_update()
  func differs(from other: PinAccount) -> Bool {
    charge != .none && (charge != other.charge || addressSpace !== other.addressSpace)
  }

  /// iommufd: update_mm_locked_vm(), downwards
  var canBeRefunded: Bool {
    charge != .addressSpace || addressSpace?.isGone == false
  }

  enum Kind {
    case none, user, addressSpace
  }

  var kind: Kind {
    switch charge {
    case .none: .none
    case .user: .user
    case .addressSpace: .addressSpace
    }
  }

  // MARK: Booking

  /// An address space that is gone pays like any other, within the limit that its process had: what is
  /// pinned then are files. iommufd: update_mm_locked_vm(), upwards
  /// - Throws: `.noMemory` over the limit.
  func book(_ pages: UInt64, in ledger: LockedMemory) throws(Errno) {
    guard pages > 0 else { return }
    try FaultInjection.step()
    guard let account else { return }
    var limit = currentLimit >> 12
    if charge == .addressSpace {
      let isGone = addressSpace?.isGone ?? true
      let own = isGone ? 0 : (try? process.lockedMemory()) ?? 0
      guard own >> 12 <= limit else { throw .noMemory }
      limit -= own >> 12
    }
    try ledger.add(pages, to: account, limit: limit)
  }

  func release(_ pages: UInt64, in ledger: LockedMemory) {
    guard pages > 0, let account else { return }
    ledger.remove(pages, from: account)
  }

  private var account: LockedMemory.Account? {
    switch charge {
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

// SPDX-License-Identifier: Apache-2.0

// IOMMU_IOAS_CHANGE_PROCESS: the mappings of a context are charged to another process, whose limits
// apply from then on.

package import SystemPackage
package import UAPI

extension IOPageTable {
  /// Charges the mappings of all page tables of a context to the process of `client`.
  /// iommufd: iommufd_ioas_change_process()
  /// - Throws: `.resourceBusy` while an area is being mapped; `.invalidArgument` when memory of a
  ///   process is mapped, which cannot be transferred;
  ///   `.noMemory` when the new process would exceed its limit. Nothing has changed then. Also
  ///   `.invalidArgument` when pages were charged to an address space that is gone and so cannot be
  ///   uncharged; the mappings are transferred in that case.
  package static func changeProcess(
    of tables: [IOPageTable], to client: any Client
  ) throws(Errno) {
    guard let counters = tables.first?.host.counters else { return }
    let all = try distinctPages(of: tables)
    var charged: [(account: PinAccount, pages: UInt64)] = []
    var newAccounts: [PinAccount] = []
    do throws(Errno) {
      for pages in all { newAccounts.append(try pages.account.transferred(to: client)) }
      // The old account is uncharged afterwards, so a counter that both use needs room for both.
      for kind in [PinAccount.Kind.user, .addressSpace] {
        let changed = zip(all, newAccounts).filter { pages, new in
          new.kind == kind && pages.account.needsCharge(onChangeTo: new)
        }
        guard let account = changed.first?.1 else { continue }
        let count = changed.reduce(0) { $0 + $1.0.pinnedCount }
        try account.charge(count, in: counters)
        charged.append((account, count))
      }
    } catch {
      for (account, count) in charged { account.uncharge(count, in: counters) }
      throw error
    }
    let canUnchargeAll = zip(all, newAccounts).allSatisfy { pages, new in
      !pages.account.needsCharge(onChangeTo: new) || pages.account.canBeUncharged
    }
    for (pages, new) in zip(all, newAccounts) { pages.change(account: new) }
    guard canUnchargeAll else { throw .invalidArgument }
  }

  /// Returns each IOPTPages once, however many areas share it.
  private static func distinctPages(of tables: [IOPageTable]) throws(Errno) -> [IOPTPages] {
    var seen: Set<ObjectIdentifier> = []
    var all: [IOPTPages] = []
    for table in tables {
      try table.areas.forEach { interval throws(Errno) in
        let area = interval.value
        if area.state == .pending { throw Errno.resourceBusy }
        guard case .file = area.pages.source else { throw Errno.invalidArgument }
        if seen.insert(ObjectIdentifier(area.pages)).inserted { all.append(area.pages) }
      }
    }
    return all
  }
}

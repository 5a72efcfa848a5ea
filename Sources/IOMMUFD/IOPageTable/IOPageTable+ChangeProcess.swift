// Another process takes over all mappings of a context: who pays, and whose limits count.

package import SystemPackage
package import UAPI

extension IOPageTable {
  /// Hands the mappings of all page tables of a context to the process of `client`.
  /// iommufd: iommufd_ioas_change_process()
  /// - Throws: `.invalidArgument` when memory of a process is mapped, which cannot be handed on;
  ///   `.noMemory` when the new payer is over the limit. Nothing has changed then. Also
  ///   `.invalidArgument`, and the mappings are handed over, when an address space that paid is gone and
  ///   cannot be given its pages back.
  package static func changeProcess(
    of tables: [IOPageTable], to client: any Client
  ) throws(Errno) {
    guard let ledger = tables.first?.host.lockedMemory else { return }
    let all = try distinctPages(of: tables)
    var booked: [(payer: PinAccount, pages: UInt64)] = []
    var successors: [PinAccount] = []
    do throws(Errno) {
      for pages in all { successors.append(try pages.payer.succeeded(by: client)) }
      // The old payer is relieved afterwards: who pays for both for a moment needs room for both.
      for kind in [PinAccount.Kind.user, .addressSpace] {
        let changed = zip(all, successors).filter { pages, successor in
          successor.kind == kind && pages.payer.differs(from: successor)
        }
        guard let payer = changed.first?.1 else { continue }
        let count = changed.reduce(0) { $0 + $1.0.pinnedCount }
        try payer.book(count, in: ledger)
        booked.append((payer, count))
      }
    } catch {
      for (payer, count) in booked { payer.release(count, in: ledger) }
      throw error
    }
    let canRefundAll = zip(all, successors).allSatisfy { pages, successor in
      !pages.payer.differs(from: successor) || pages.payer.canBeRefunded
    }
    for (pages, successor) in zip(all, successors) { pages.change(payer: successor) }
    guard canRefundAll else { throw .invalidArgument }
  }

  /// Each once, however many areas have it.
  private static func distinctPages(of tables: [IOPageTable]) throws(Errno) -> [IOPTPages] {
    var seen: Set<ObjectIdentifier> = []
    var all: [IOPTPages] = []
    for table in tables {
      try table.forEachArea { area throws(Errno) in
        guard case .file = area.pages.source else { throw .invalidArgument }
        if seen.insert(ObjectIdentifier(area.pages)).inserted { all.append(area.pages) }
      }
    }
    return all
  }
}

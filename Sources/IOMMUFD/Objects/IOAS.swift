// SPDX-License-Identifier: Apache-2.0

internal import IOMMU
internal import SystemPackage
internal import UAPI

/// An I/O address space (iommufd: struct iommufd_ioas): the mappings from IOVAs to client pages,
/// and the HWPTs whose domains contain them. Guarded by the context's lock.
final class IOAS: Object, @unchecked Sendable {
  let pageTable: IOPageTable
  /// The HWPTs whose domains the page table fills, oldest first (hwpt_list).
  private(set) var hwpts: [PagingHWPT] = []
  /// The flags of paging domains that an attach to the IOAS makes.
  private(set) var automaticFlags: PagingDomainFlags = []
  /// Whether a call is making an automatic HWPT, which releases the lock.
  private var makesAutomaticHWPT = false

  override init(id: ObjectID, in context: Context) {
    pageTable = IOPageTable(memory: context.memory, lock: context.lock)
    super.init(id: id, in: context)
  }

  /// Runs `body`, which makes or uses an automatic HWPT, while no other call does so: devices that
  /// a domain is compatible with share one HWPT. Another call waits for no longer than it would
  /// without this rule, because its HWPT needs the same pages. The lock is released while the call
  /// waits. iommufd: ioas->mutex
  func withAutomaticHWPTs<Result>(
    _ body: () throws(Errno) -> Result
  ) throws(Errno) -> Result {
    while makesAutomaticHWPT { context.lock.waitForChange() }
    makesAutomaticHWPT = true
    defer {
      makesAutomaticHWPT = false
      context.lock.announceChange()
    }
    return try body()
  }

  /// Lists `hwpt`, whose domain the page table has filled.
  func add(_ hwpt: PagingHWPT) {
    context.lock.assertHeld()
    hwpts.append(hwpt)
  }

  /// - Returns: `false` when `hwpt` is not listed.
  func remove(_ hwpt: PagingHWPT) -> Bool {
    context.lock.assertHeld()
    guard let index = hwpts.firstIndex(where: { $0 === hwpt }) else { return false }
    hwpts.remove(at: index)
    return true
  }

  /// Sets the flags of paging domains that an attach to the IOAS makes from now on.
  /// - Throws: `.resourceBusy` when there are such domains with other flags.
  func setAutomaticFlags(_ flags: PagingDomainFlags) throws(Errno) {
    context.lock.assertHeld()
    guard flags != automaticFlags else { return }
    guard !hwpts.contains(where: \.isAutomatic) else { throw .resourceBusy }
    automaticFlags = flags
  }

  /// iommufd: iommufd_ioas_destroy()
  override func destroy() {
    context.lock.assertHeld()
    _ = pageTable.unmapAll()
  }
}

// An I/O address space (iommufd: struct iommufd_ioas): which client memory an IOVA means, and the
// hardware page tables that are kept equal to it.

internal import IOMMU
internal import SystemPackage
internal import UAPI

final class IOAS: Object, @unchecked Sendable {
  /// Guarded by the control lock, as is everything in it.
  let pageTable: IOPageTable
  /// Every domain that the page table fills, in the order of their making (hwpt_list).
  var hwpts: [PagingHWPT] = []
  /// The flags of paging domains that an attach to the IOAS makes.
  private(set) var automaticFlags: PagingDomainFlags = []

  override init(id: ObjectID, in context: Context) {
    pageTable = IOPageTable(memory: context.memory)
    super.init(id: id, in: context)
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

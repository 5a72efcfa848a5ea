// An I/O address space (iommufd: struct iommufd_ioas): which client memory an IOVA means, and the
// hardware page tables that are kept equal to it.

internal import IOMMU
internal import UAPI

final class IOAS: Object, @unchecked Sendable {
  /// Guarded by the control lock, as is everything in it.
  let pageTable: IOPageTable
  /// Every domain that the page table fills, in the order of their making (hwpt_list).
  var hwpts: [PagingHWPT] = []
  /// What domains are made with that nobody asked for by name.
  var automaticFlags: PagingDomainFlags = []

  override init(id: ObjectID, in context: Context) {
    pageTable = IOPageTable(memory: context.memory)
    super.init(id: id, in: context)
  }

  /// iommufd: iommufd_ioas_destroy()
  override func destroy() {
    context.lock.assertHeld()
    _ = pageTable.unmapAll()
  }
}

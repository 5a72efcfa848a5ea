// What the object model asks of the I/O page table, for the developers who build against it. The table
// itself replaces this file.

internal import IOMMU
internal import SystemPackage
internal import UAPI

package enum PinAccounting {
  package enum Mode: Sendable { case user, process }
}

/// The bytes that were unmapped, also when the call then failed.
struct Unmapped {
  var bytes: UInt64
  var failure: Errno?

  func get() throws(Errno) -> UInt64 {
    if let failure { throw failure }
    return bytes
  }
}

/// Every method is called with the control lock held.
final class IOPageTable {
  init(memory: PhysicalMemory) {}

  /// IOVAs outside all reserved ranges, ascending.
  var usableRanges: [ClosedRange<UInt64>] { [0...UInt64.max] }
  /// iova_alignment
  private(set) var alignment: UInt64 = 1

  // MARK: Large pages

  private(set) var disablesLargePages = false
  func enableLargePages() { disablesLargePages = false }
  func disableLargePages() throws(Errno) { disablesLargePages = true }

  // MARK: Mapping. `iova` nil: find a place.

  /// iopt_map_user_pages()
  func map(
    userAddress: UInt64, length: UInt64, at iova: UInt64?, permissions: Permissions,
    accounting: PinAccounting.Mode, client: any Client
  ) throws(Errno) -> UInt64 { throw .notSupported }

  /// iopt_map_file_pages()
  func map(
    file: Int32, start: UInt64, length: UInt64, at iova: UInt64?, permissions: Permissions,
    accounting: PinAccounting.Mode, client: any Client
  ) throws(Errno) -> UInt64 { throw .notSupported }

  /// iopt_get_pages(): references to what is mapped, for ``map(_:length:at:permissions:)``.
  func pages(at iova: UInt64, length: UInt64) throws(Errno) -> [Never] {
    throw .noSuchFileOrDirectory
  }

  /// iopt_map_pages()
  func map(
    _ pages: [Never], length: UInt64, at iova: UInt64?, permissions: Permissions
  ) throws(Errno) -> UInt64 { throw .notSupported }

  /// iopt_unmap_iova()
  func unmap(_ iova: UInt64, length: UInt64) -> Unmapped { Unmapped(bytes: 0) }
  /// iopt_unmap_all()
  func unmapAll() -> Unmapped { Unmapped(bytes: 0) }
  /// iopt_cut_iova() at iova + length - 1 and, unless iova is 0, at iova - 1.
  func cut(around iova: UInt64, length: UInt64) throws(Errno) {}

  // MARK: Allowed and reserved ranges

  /// iopt_set_allow_iova(). Disjoint, ascending.
  func setAllowed(_ ranges: [ClosedRange<UInt64>]) throws(Errno) {}
  /// iopt_table_enforce_dev_resv_regions()
  func enforceReservedRegions(of device: PhysicalDevice) throws(Errno) {}
  /// iopt_remove_reserved_iova()
  func removeReservedRegions(of device: PhysicalDevice) {}

  // MARK: Domains

  /// iopt_table_add_domain()
  func addDomain(_ domain: any PagingDomain) throws(Errno) {}
  /// iopt_table_remove_domain()
  func removeDomain(_ domain: any PagingDomain) {}

  // MARK: Process

  /// iommufd_ioas_change_process() on all page tables of a file, all or none.
  static func changeProcess(of tables: [IOPageTable], to client: any Client) throws(Errno) {}
}

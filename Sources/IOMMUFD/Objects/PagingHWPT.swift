// SPDX-License-Identifier: Apache-2.0

internal import IOMMU
internal import SystemPackage
internal import UAPI

/// A HWPT with a paging domain (iommufd: struct iommufd_hwpt_paging). The page table of its IOAS
/// keeps the domain filled with all mappings.
final class PagingHWPT: HWPT, @unchecked Sendable {
  let domain: any PagingDomain
  /// The driver of the unit that the domain belongs to.
  let driver: any IOMMUDriver
  let flags: PagingDomainFlags
  /// Whether an attach to the IOAS made the HWPT (auto_domain). Devices that the domain is
  /// compatible with share such a HWPT, and the last detach destroys it. Set before the object is
  /// published.
  private(set) var isAutomatic = false
  /// Whether no-snoop accesses of attached devices are forced coherent (enforce_cache_coherency).
  private(set) var enforcesCacheCoherency = false

  private init(
    id: ObjectID, ioas: IOAS, domain: any PagingDomain, of driver: any IOMMUDriver,
    flags: PagingDomainFlags
  ) {
    self.domain = domain
    self.driver = driver
    self.flags = flags
    super.init(
      id: id, ioas: ioas, domain: domain, isPASIDCompatible: flags.contains(.pasid))
    ioas.addUser()
  }

  /// Makes a domain for `device` and fills it with the mappings of `ioas`. The ID is reserved; the
  /// caller finalizes or aborts. Releases the lock while pages are faulted in.
  /// iommufd: iommufd_hwpt_paging_alloc()
  /// - Parameter attaching: attaches the device before the domain is filled, because a driver may
  ///   decide at the first attach what the domain can do.
  static func make(
    for device: BoundDevice, on ioas: IOAS, flags: PagingDomainFlags = [],
    data: UserData? = nil, attaching: Bool, pasid: PASID? = nil, client: (any Client)? = nil
  ) throws(Errno) -> PagingHWPT {
    let context = ioas.context
    context.lock.assertHeld()
    let id = try context.objects.reserve()
    let hwpt: PagingHWPT
    do throws(Errno) {
      let driver = device.device.driver
      let domain = try driver.makePagingDomain(
        flags, for: device.device.requesterID, data: data)
      hwpt = PagingHWPT(id: id, ioas: ioas, domain: domain, of: driver, flags: flags)
    } catch {
      context.objects.abort(id)
      throw error
    }
    do throws(Errno) {
      if device.enforcesCacheCoherency { try hwpt.enforceCacheCoherency() }
      if attaching { try device.attachDirectly(to: hwpt, pasid: pasid) }
      do throws(Errno) {
        try ioas.pageTable.addDomain(hwpt.domain, client: client)
      } catch {
        if attaching { device.detachDirectly(pasid: pasid)?.dropUser() }
        throw error
      }
    } catch {
      hwpt.abort()
      throw error
    }
    ioas.add(hwpt)
    return hwpt
  }

  func finalize(asAutomatic isAutomatic: Bool) {
    self.isAutomatic = isAutomatic
    context.objects.finalize(self)
  }

  /// Also destroys an automatic HWPT that no device is attached to any more.
  override func put() {
    super.put()
    guard isAutomatic else { return }
    // EBUSY while another device is attached.
    try? context.destroy(id)
  }

  /// iommufd: iommufd_hwpt_paging_enforce_cc()
  /// - Throws: `.invalidArgument` when the domain cannot force no-snoop accesses coherent.
  func enforceCacheCoherency() throws(Errno) {
    if enforcesCacheCoherency { return }
    enforcesCacheCoherency = domain.enforceCacheCoherency()
    guard enforcesCacheCoherency else { throw .invalidArgument }
  }

  /// iommufd: iommufd_hwpt_paging_destroy()
  override func destroy() {
    super.destroy()
    if ioas.remove(self) { ioas.pageTable.removeDomain(domain) }
    ioas.dropUser()
  }
}

// A hardware page table that we keep (iommufd: struct iommufd_hwpt_paging): one domain of one unit's
// driver, filled with the mappings of its IOAS.

internal import IOMMU
internal import SystemPackage
internal import UAPI

final class PagingHWPT: HWPT, @unchecked Sendable {
  let domain: any PagingDomain
  /// Of the unit that the domain is of.
  let driver: any IOMMUDriver
  /// Flags it was made with.
  let flags: PagingDomainFlags
  /// Made by an attach to the IOAS: any device may share it, and it goes with the last one. Set once,
  /// before the object is visible.
  private(set) var isAutomatic = false
  /// Forces no-snoop accesses of every attached device coherent.
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

  /// Makes a domain for `device` and fills it with everything that is mapped in `ioas`, the device
  /// already attached when `attaching` (its driver may decide at attach what the domain can do). The
  /// result is reserved, not visible: the caller finalizes or aborts.
  /// iommufd: iommufd_hwpt_paging_alloc()
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
    ioas.hwpts.append(hwpt)
    return hwpt
  }

  func finalize(asAutomatic isAutomatic: Bool) {
    self.isAutomatic = isAutomatic
    context.objects.finalize(self)
  }

  /// An automatic one goes with the last device.
  override func put() {
    super.put()
    guard isAutomatic else { return }
    // EBUSY: other devices still use it.
    try? context.destroy(id)
  }

  /// iommufd: iommufd_hwpt_paging_enforce_cc()
  func enforceCacheCoherency() throws(Errno) {
    if enforcesCacheCoherency { return }
    enforcesCacheCoherency = domain.enforceCacheCoherency()
    guard enforcesCacheCoherency else { throw .invalidArgument }
  }

  /// iommufd: iommufd_hwpt_paging_destroy()
  override func destroy() {
    super.destroy()
    if let index = ioas.hwpts.firstIndex(where: { $0 === self }) {
      ioas.hwpts.remove(at: index)
      ioas.pageTable.removeDomain(domain)
    }
    ioas.dropUser()
  }
}

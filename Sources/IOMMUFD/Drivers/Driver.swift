// What the kernel's `struct iommu_ops` is to iommufd: the vendor's driver, which owns the tables of
// one IOMMU unit and programs the unit. The hardware itself is in the IOMMU module and knows nothing
// of these words. Domain.swift has what a driver makes, VirtualIOMMU.swift the unit that a guest sees.
//
// What a driver need not have is answered by an extension, as the kernel's core answers for an
// operation that is NULL.
//
// Locking: the object model may call a driver with its own locks held; a driver never calls back
// from within. Attach, detach, unmap and invalidate return only when no translation can still use
// what they took away. Operations that take ``UserData`` read the client's memory.

internal import CUAPI
package import IOMMU
package import SystemPackage

/// One vendor's driver for one IOMMU unit.
package protocol IOMMUDriver: AnyObject, Sendable {
  // MARK: What a device and its unit can do

  /// IOVA ranges of `device` that no client may use (iommu_get_resv_regions()).
  func reservedRegions(of device: RequesterID) -> [ReservedRegion]

  /// IOMMU_CAP_ENFORCE_CACHE_COHERENCY.
  func enforcesCacheCoherency(for device: RequesterID) -> Bool

  /// Other capabilities (iommu_ops.capable). The default: none.
  func capabilities(of device: RequesterID) -> DeviceCapabilities

  /// What a guest's driver must know of the unit (iommu_ops.hw_info).
  /// - Parameter type: what the client asks for; 0 leaves the choice to the driver.
  /// - Returns: nil where there is nothing to tell (the default).
  /// - Throws: `.notSupported` (EOPNOTSUPP) for a type the unit does not have.
  func hardwareInfo(of device: RequesterID, type: UInt32) throws(Errno) -> HardwareInfo?

  // MARK: Domains

  /// A kernel-managed domain that `device` can be attached to
  /// (iommu_ops.domain_alloc_paging_flags).
  /// - Throws: `.notSupported` (EOPNOTSUPP) for flags or data the unit cannot do, `.noMemory`.
  func makePagingDomain(
    _ flags: PagingDomainFlags, for device: RequesterID, data: UserData?
  ) throws(Errno) -> any PagingDomain

  /// A domain whose first stage is the client's, on top of `parent`
  /// (iommu_ops.domain_alloc_nested). The default: EOPNOTSUPP.
  func makeNestedDomain(
    on parent: any PagingDomain, for device: RequesterID, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> any NestedDomain

  /// Makes DMA of `device` (with `pasid` when given) go through `new` and no longer through `old`,
  /// which is what it went through so far (domain_ops.attach_dev, set_dev_pasid). On an error
  /// nothing has changed.
  /// - Throws: `.invalidArgument` when the domain is not compatible with the unit or device.
  func attach(
    _ new: DomainAttachment, to device: RequesterID, pasid: PASID?,
    replacing old: DomainAttachment?
  ) throws(Errno)

  /// Blocks all DMA of `device` (with `pasid` when given). Cannot fail.
  func block(_ device: RequesterID, pasid: PASID?)

  // MARK: Virtual units

  /// Whether ``makeVirtualIOMMU(type:on:for:host:data:)`` knows `type` (iommu_ops.get_viommu_size).
  /// The default: no type is known.
  func supportsVirtualIOMMU(type: UInt32, for device: RequesterID) -> Bool

  /// A slice of the unit for one guest, whose memory is `parent` (iommu_ops.viommu_init).
  /// - Parameter host: what iommufd does for it; kept as long as the virtual unit lives.
  func makeVirtualIOMMU(
    type: UInt32, on parent: any PagingDomain, for device: RequesterID,
    host: any VirtualIOMMUHost, data: UserData?
  ) throws(Errno) -> any VirtualIOMMU

  // MARK: Faults

  /// Sets who is told of failed DMA of the unit's devices; replaces the one before. The sink is called
  /// by the thread of the DMA and takes no lock of the control plane.
  func setFaultSink(_ sink: FaultSink?)

  /// Sets who is told of page requests of attachments that handle them; as
  /// ``setFaultSink(_:)``. The default: the unit makes none.
  func setPageRequestSink(_ sink: PageRequestSink?)

  /// PASIDs without an attachment belong to the client's own table of them, the nested domain
  /// attached without PASID (iommu_ops.user_pasid_table). The default: no.
  var hasUserPASIDTable: Bool { get }

  /// Answers a group of page requests (iommu_ops.page_response). The default: nothing.
  func respond(to group: PageRequestGroupID, _ response: PageResponse)
}

extension IOMMUDriver {
  package func makePagingDomain(
    _ flags: PagingDomainFlags, for device: RequesterID
  ) throws(Errno) -> any PagingDomain {
    try makePagingDomain(flags, for: device, data: nil)
  }

  package func attach(
    _ domain: any Domain, to device: RequesterID, pasid: PASID?
  ) throws(Errno) {
    try attach(DomainAttachment(domain), to: device, pasid: pasid, replacing: nil)
  }
}

/// What the core answers for an operation that a driver lacks.
extension IOMMUDriver {
  package func capabilities(of device: RequesterID) -> DeviceCapabilities { [] }

  package func hardwareInfo(
    of device: RequesterID, type: UInt32
  ) throws(Errno) -> HardwareInfo? { nil }

  package func makeNestedDomain(
    on parent: any PagingDomain, for device: RequesterID, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> any NestedDomain { throw .notSupported }

  package func supportsVirtualIOMMU(type: UInt32, for device: RequesterID) -> Bool { false }

  package func makeVirtualIOMMU(
    type: UInt32, on parent: any PagingDomain, for device: RequesterID,
    host: any VirtualIOMMUHost, data: UserData?
  ) throws(Errno) -> any VirtualIOMMU { throw .notSupported }

  package func setPageRequestSink(_ sink: PageRequestSink?) {}
  package var hasUserPASIDTable: Bool { false }
  package func respond(to group: PageRequestGroupID, _ response: PageResponse) {}
}

/// A domain as a device uses it.
package struct DomainAttachment: Sendable {
  package let domain: any Domain
  /// Somebody answers page requests (iommu_domain.iopf_handler): the driver enables them.
  package let handlesPageRequests: Bool

  package init(_ domain: any Domain, handlesPageRequests: Bool = false) {
    self.domain = domain
    self.handlesPageRequests = handlesPageRequests
  }
}

/// enum iommu_cap, as far as clients are told.
package struct DeviceCapabilities: OptionSet, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
  /// IOMMU_CAP_DIRTY_TRACKING
  package static let dirtyTracking = DeviceCapabilities(rawValue: 1 << 0)
  /// IOMMU_CAP_PCI_ATS_SUPPORTED
  package static let ats = DeviceCapabilities(rawValue: 1 << 1)
  /// The device's requests with PASID may ask to execute, or with privilege (PCI_PASID_CTRL_*).
  package static let pasidExecute = DeviceCapabilities(rawValue: 1 << 2)
  package static let pasidPrivileged = DeviceCapabilities(rawValue: 1 << 3)
}

/// What GET_HW_INFO answers.
package struct HardwareInfo: Sendable {
  /// IOMMU_HW_INFO_TYPE_*
  package let type: UInt32
  package let bytes: [UInt8]

  package init<Value: BitwiseCopyable>(type: UInt32, _ value: Value) {
    self.type = type
    bytes = withUnsafeBytes(of: value) { Array($0) }
  }

  /// For a client that asks for one type, of a unit that has another one or the same.
  /// - Parameter asked: 0 leaves the choice to the unit.
  init<Value: BitwiseCopyable>(
    asked: UInt32, type: UInt32, _ value: Value
  ) throws(Errno) {
    guard asked == IOMMU_HW_INFO_TYPE_DEFAULT.rawValue || asked == type else {
      throw .notSupported
    }
    self.init(type: type, value)
  }
}

/// An IOVA range with a meaning of its own on the device's bus.
package struct ReservedRegion: Hashable, Sendable {
  package enum Kind: Sendable {
    /// Must be identity mapped, always (IOMMU_RESV_DIRECT).
    case direct
    /// Identity mapped for the boot only; may be dropped (IOMMU_RESV_DIRECT_RELAXABLE).
    case directRelaxable
    /// Never reaches the IOMMU (IOMMU_RESV_RESERVED).
    case reserved
    /// The hardware's MSI window (IOMMU_RESV_MSI).
    case msi
    /// A window the software may choose (IOMMU_RESV_SW_MSI).
    case softwareMSI
  }
  package let range: ClosedRange<UInt64>
  package let kind: Kind

  package init(range: ClosedRange<UInt64>, kind: Kind) {
    self.range = range
    self.kind = kind
  }
}

// SPDX-License-Identifier: Apache-2.0

// The interface between iommufd and the kernel's vendor drivers (struct iommu_ops). A driver owns
// the translation tables of one IOMMU unit and programs the unit. The unit itself is in the IOMMU
// module and knows nothing of iommufd. Domain.swift has the domains that a driver makes,
// VirtualIOMMU.swift the driver's side of a vIOMMU.
//
// A protocol extension answers for the operations that a driver does not have, as the kernel's core
// answers for an operation that is NULL.
//
// Locking: iommufd may hold its own locks when it calls a driver. A driver does not call iommufd
// during such a call. When attach, detach, unmap or invalidate returns, no translation uses what
// the call has removed. An operation with a ``UserData`` parameter reads the client's memory.

package import IOMMU
package import SystemPackage

/// One vendor's driver for one IOMMU unit.
package protocol IOMMUDriver: AnyObject, Sendable {
  // MARK: What a device and its unit can do

  /// Returns the IOVA ranges of `device` that no client may use (iommu_get_resv_regions()).
  func reservedRegions(of device: RequesterID) -> [ReservedRegion]

  /// IOMMU_CAP_ENFORCE_CACHE_COHERENCY.
  func enforcesCacheCoherency(for device: RequesterID) -> Bool

  /// Returns the other capabilities of `device` (iommu_ops.capable). The default has none.
  func capabilities(of device: RequesterID) -> DeviceCapabilities

  /// Returns log2 of the PASIDs that a device with 2^`width` PASIDs can use behind the unit
  /// (dev_iommu_get_max_pasids()). The default returns `width`.
  /// - Returns: `nil` when the unit has no PASIDs, not even PASID 0.
  func usablePASIDWidth(_ width: Int) -> Int?

  /// Returns what a guest's driver needs to know of the unit (iommu_ops.hw_info). The default
  /// returns `nil`.
  /// - Parameter type: The type that the client requests. 0 requests the type that the unit has.
  /// - Returns: `nil` when the unit has no information.
  /// - Throws: `.notSupported` (EOPNOTSUPP) for a type that the unit does not have.
  func hardwareInfo(of device: RequesterID, type: UInt32) throws(Errno) -> HardwareInfo?

  // MARK: Domains

  /// Makes a domain with page tables that the kernel fills, to which `device` can be attached
  /// (iommu_ops.domain_alloc_paging_flags).
  /// - Throws: `.notSupported` (EOPNOTSUPP) for flags or data that the unit cannot honour,
  ///   `.noMemory`.
  func makePagingDomain(
    _ flags: PagingDomainFlags, for device: RequesterID, data: UserData?
  ) throws(Errno) -> any PagingDomain

  /// Whether the driver has ``makeNestedDomain(on:for:flags:data:)``. Without it iommufd refuses a
  /// nested domain before it looks at the parent. The default is `false`.
  var hasNestedDomains: Bool { get }

  /// Makes a domain whose first stage is the client's page table, nested on `parent`
  /// (iommu_ops.domain_alloc_nested). The default throws EOPNOTSUPP.
  func makeNestedDomain(
    on parent: any PagingDomain, for device: RequesterID, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> any NestedDomain

  /// Attaches `device`, or its `pasid`, to `new` (domain_ops.attach_dev, set_dev_pasid). An error
  /// changes nothing.
  /// - Parameter old: The attachment that `new` replaces, if there is one.
  /// - Throws: `.invalidArgument` when the domain is not compatible with the unit or the device.
  func attach(
    _ new: DomainAttachment, to device: RequesterID, pasid: PASID?,
    replacing old: DomainAttachment?
  ) throws(Errno)

  /// Blocks all DMA of `device`, or of its `pasid`. Cannot fail.
  func block(_ device: RequesterID, pasid: PASID?)

  // MARK: vIOMMUs

  /// Returns whether ``makeVirtualIOMMU(type:on:for:host:data:)`` knows `type`
  /// (iommu_ops.get_viommu_size). The default knows no type.
  func supportsVirtualIOMMU(type: UInt32, for device: RequesterID) -> Bool

  /// Makes the driver's side of a vIOMMU for a guest whose memory is `parent`
  /// (iommu_ops.viommu_init).
  /// - Parameter host: iommufd's services for the vIOMMU. They last as long as the vIOMMU.
  func makeVirtualIOMMU(
    type: UInt32, on parent: any PagingDomain, for device: RequesterID,
    host: any VirtualIOMMUHost, data: UserData?
  ) throws(Errno) -> any VirtualIOMMU

  // MARK: Faults

  /// Sets the receiver of faults of the unit's devices and replaces the previous receiver. The
  /// thread of the DMA calls the receiver, which takes no lock of the control plane.
  func setFaultSink(_ sink: FaultSink?)

  /// Sets the receiver of page requests of attachments that handle them, under the rules of
  /// ``setFaultSink(_:)``. The default does nothing, for a unit without page requests.
  func setPageRequestSink(_ sink: PageRequestSink?)

  /// Whether a PASID without an attachment belongs to the client's own PASID table, which is the
  /// nested domain that the device is attached to without PASID (iommu_ops.user_pasid_table). The
  /// default is `false`.
  var hasUserPASIDTable: Bool { get }

  /// Answers a page request group (iommu_ops.page_response). The default does nothing.
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

/// The answers of the kernel's core for operations that a driver does not have.
extension IOMMUDriver {
  package func capabilities(of device: RequesterID) -> DeviceCapabilities { [] }
  package func usablePASIDWidth(_ width: Int) -> Int? { width }

  package func hardwareInfo(
    of device: RequesterID, type: UInt32
  ) throws(Errno) -> HardwareInfo? { nil }

  package var hasNestedDomains: Bool { false }

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

/// A domain as one attachment uses it.
package struct DomainAttachment: Sendable {
  package let domain: any Domain
  /// Whether the attachment has a page request handler (iommu_domain.iopf_handler). The driver then
  /// enables page requests.
  package let handlesPageRequests: Bool

  package init(_ domain: any Domain, handlesPageRequests: Bool = false) {
    self.domain = domain
    self.handlesPageRequests = handlesPageRequests
  }
}

/// The values of enum iommu_cap that clients learn.
package struct DeviceCapabilities: OptionSet, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
  /// IOMMU_CAP_DIRTY_TRACKING
  package static let dirtyTracking = DeviceCapabilities(rawValue: 1 << 0)
  /// IOMMU_CAP_PCI_ATS_SUPPORTED
  package static let ats = DeviceCapabilities(rawValue: 1 << 1)
  /// PCI_PASID_CTRL_EXEC: requests with a PASID can have execute permission.
  package static let pasidExecute = DeviceCapabilities(rawValue: 1 << 2)
  /// PCI_PASID_CTRL_PRIV: requests with a PASID can have privileged permission.
  package static let pasidPrivileged = DeviceCapabilities(rawValue: 1 << 3)
}

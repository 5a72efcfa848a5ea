// SPDX-License-Identifier: Apache-2.0

// The kernel's mock driver for iommufd's selftests (drivers/iommu/iommufd/selftest.c). Test
// operations make the devices of the mock unit. An attach only records the domain, so a test
// observes which attaches the driver refuses.

internal import CUAPI
package import IOMMU
internal import Synchronization
package import SystemPackage

/// The driver of the mock unit.
package final class MockDriver: IOMMUDriver {
  /// MOCK_FLAGS_DEVICE_*
  package struct DeviceFlags: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    package static let noDirty = DeviceFlags(rawValue: UInt32(MOCK_FLAGS_DEVICE_NO_DIRTY))
    package static let pasid = DeviceFlags(rawValue: UInt32(MOCK_FLAGS_DEVICE_PASID))
  }

  fileprivate struct Device {
    let flags: DeviceFlags
    var attachments: [PASID?: DomainAttachment] = [:]
    /// The vIOMMU of the nested domain that was attached last without PASID.
    var viommu: MockVirtualIOMMU?
    /// The device's ID in `viommu` at the attach.
    var virtualID: UInt64 = 0
    /// Whether the next attach of ``reservedPASID`` fails.
    var failsReservedPASID = false
  }

  /// The PASID whose every second attach fails.
  private static let reservedPASID = PASID(rawValue: UInt32(IOMMU_TEST_PASID_RESERVED))

  package let unit: MockUnit
  private let memory: PhysicalMemory
  private let devices = Mutex<[RequesterID: Device]>([:])

  package init(unit: MockUnit = MockUnit(), memory: PhysicalMemory) {
    self.unit = unit
    self.memory = memory
  }

  // MARK: Devices

  /// selftest.c: mock_dev_create()
  package func plug(_ flags: DeviceFlags) throws(Errno) -> RequesterID {
    guard flags.isSubset(of: [.noDirty, .pasid]) else { throw .invalidArgument }
    let device = try unit.plug()
    devices.withLock { $0[device] = Device(flags: flags) }
    return device
  }

  /// selftest.c: mock_dev_destroy()
  package func unplug(_ device: RequesterID) {
    devices.withLock { _ = $0.removeValue(forKey: device) }
    unit.unplug(device)
  }

  private func flags(of device: RequesterID) -> DeviceFlags {
    devices.withLock { $0[device]?.flags ?? [] }
  }

  // MARK: What a device and its unit can do

  package func reservedRegions(of device: RequesterID) -> [ReservedRegion] { [] }
  package func enforcesCacheCoherency(for device: RequesterID) -> Bool { false }

  /// selftest.c: mock_domain_capable()
  package func capabilities(of device: RequesterID) -> DeviceCapabilities {
    flags(of: device).contains(.noDirty) ? [] : .dirtyTracking
  }

  /// selftest.c: mock_domain_hw_info()
  package func hardwareInfo(
    of device: RequesterID, type: UInt32
  ) throws(Errno) -> HardwareInfo? {
    try HardwareInfo(
      requested: type, type: UInt32(IOMMU_HW_INFO_TYPE_SELFTEST),
      iommu_test_hw_info(flags: 0, test_reg: UInt32(IOMMU_HW_INFO_SELFTEST_REGVAL)))
  }

  // MARK: Domains

  /// selftest.c: mock_domain_alloc_paging_flags()
  package func makePagingDomain(
    _ flags: PagingDomainFlags, for device: RequesterID, data: UserData?
  ) throws(Errno) -> any PagingDomain {
    guard flags.isSubset(of: [.nestParent, .dirtyTracking, .pasid]) else { throw .notSupported }
    if flags.contains(.dirtyTracking), self.flags(of: device).contains(.noDirty) {
      throw .notSupported
    }
    var format = MockPagingDomain.Format.standard
    if let data {
      let type = UInt32(IOMMU_HWPT_DATA_SELFTEST)
      guard data.type == type || data.type == IOMMU_HWPT_DATA_NONE.rawValue else {
        throw .notSupported
      }
      let configuration = try data.load(
        iommu_hwpt_selftest.self, type: type, minimumThrough: \.iotlb)
      format = try MockPagingDomain.Format(configuration.pagetable_type)
    }
    return try MockPagingDomain(
      format, tracksDirty: flags.contains(.dirtyTracking), memory: memory)
  }

  package var hasNestedDomains: Bool { true }

  /// selftest.c: mock_domain_alloc_nested()
  package func makeNestedDomain(
    on parent: any PagingDomain, for device: RequesterID, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> any NestedDomain {
    guard flags.isSubset(of: .pasid) else { throw .notSupported }
    return try MockNestedDomain(data: data)
  }

  // MARK: Attaching

  /// selftest.c: mock_domain_nop_attach(), mock_domain_set_dev_pasid_nop()
  package func attach(
    _ new: DomainAttachment, to device: RequesterID, pasid: PASID?,
    replacing _: DomainAttachment?
  ) throws(Errno) {
    guard new.domain is MockPagingDomain || new.domain is MockNestedDomain else {
      throw .invalidArgument
    }
    let viommu = (new.domain as? MockNestedDomain)?.viommu
    let virtualID = viommu?.virtualID(of: device)
    let old = try devices.withLock { devices throws(Errno) in
      guard devices[device] != nil else { throw .operationNotSupportedByDevice }
      // Every change is made in place: a copy of the device would copy all its attachments.
      if pasid == nil {
        try devices[device]?.record(new, viommu, virtualID)
      } else if pasid == Self.reservedPASID {
        try devices[device]?.failEverySecondTime()
      }
      return devices[device]?.attachments.updateValue(new, forKey: pasid)
    }
    count(new, of: device, by: 1)
    count(old, of: device, by: -1)
  }

  package func block(_ device: RequesterID, pasid: PASID?) {
    let old = devices.withLock { devices in
      if pasid == nil {
        devices[device]?.viommu = nil
        devices[device]?.virtualID = 0
      } else if pasid == Self.reservedPASID {
        devices[device]?.failsReservedPASID = false
      }
      return devices[device]?.attachments.removeValue(forKey: pasid)
    }
    count(old, of: device, by: -1)
  }

  /// Counts the attachments that handle page requests (selftest.c: mock_dev_enable_iopf(),
  /// mock_dev_disable_iopf()).
  private func count(_ attachment: DomainAttachment?, of device: RequesterID, by change: Int) {
    guard let attachment, attachment.handlesPageRequests else { return }
    unit.countPageRequestUsers(of: device, by: change)
  }

  // MARK: vIOMMUs

  package func supportsVirtualIOMMU(type: UInt32, for device: RequesterID) -> Bool {
    type == MockVirtualIOMMU.type
  }

  package func makeVirtualIOMMU(
    type: UInt32, on parent: any PagingDomain, for device: RequesterID,
    host: any VirtualIOMMUHost, data: UserData?
  ) throws(Errno) -> any VirtualIOMMU {
    try MockVirtualIOMMU(on: parent, unit: unit, host: host, data: data)
  }

  /// Reports an event of `device` to the vIOMMU that the device was last attached through.
  /// - Throws: `.noSuchFileOrDirectory` when there is no such vIOMMU, or when the device's ID in it
  ///   is 0.
  package func triggerEvent(of device: RequesterID) throws(Errno) {
    let state = devices.withLock { $0[device] }
    guard let state, let viommu = state.viommu, state.virtualID != 0 else {
      throw .noSuchFileOrDirectory
    }
    try viommu.triggerEvent(virtualID: state.virtualID)
  }

  // MARK: Faults

  /// The mock unit translates no DMA, so it has no faults.
  package func setFaultSink(_ sink: FaultSink?) {}

  package func setPageRequestSink(_ sink: PageRequestSink?) { unit.setPageRequestSink(sink) }
  package var hasUserPASIDTable: Bool { true }
}

extension MockDriver.Device {
  /// Records an attach without PASID (selftest.c: mock_domain_nop_attach()).
  /// - Parameter virtualID: The device's ID in `viommu`.
  fileprivate mutating func record(
    _ new: DomainAttachment, _ viommu: MockVirtualIOMMU?, _ virtualID: UInt64?
  ) throws(Errno) {
    if flags.contains(.noDirty), let domain = new.domain as? MockPagingDomain,
      domain.tracksDirty
    {
      throw .invalidArgument
    }
    if viommu != nil, virtualID == nil { throw .noSuchFileOrDirectory }
    // An attach through the same vIOMMU keeps the ID of the first attach, even if the device has
    // another ID now.
    if viommu !== self.viommu {
      self.viommu = viommu
      self.virtualID = virtualID ?? 0
    }
  }

  /// selftest.c: mock_domain_set_dev_pasid_nop()
  fileprivate mutating func failEverySecondTime() throws(Errno) {
    failsReservedPASID.toggle()
    guard failsReservedPASID else { throw .noMemory }
  }
}

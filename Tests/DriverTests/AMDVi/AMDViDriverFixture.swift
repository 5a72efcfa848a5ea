// SPDX-License-Identifier: Apache-2.0

import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

/// An AMD-Vi unit with its driver, and a guest on a nesting parent that maps 8 MiB of physical
/// memory at `AMDViTables.hostBase`.
struct AMDViDriverFixture {
  static let device = RequesterID.test(1)

  let memory: PhysicalMemory
  let unit: AMDViUnit
  let driver: AMDViDriver
  let parent: AMDViPagingDomain
  let viommu: any VirtualIOMMU
  let guest: AMDViTables
  let port: DMAPort
  let faults = Collector<FaultRecord>()
  private let blocker: DeviceBlocker

  init(
    _ configuration: AMDViUnit.Configuration = .init(), pasidBits: Int = 16, hasATS: Bool = false,
    guestTableInterface: AMDViDriver.GuestTableInterface = .uapi
  ) throws {
    memory = try PhysicalMemory(.test)
    unit = AMDViUnit(configuration, memory: memory)
    driver = try AMDViDriver(
      unit: unit, lastDevice: .test(9), guestTableInterface: guestTableInterface, memory: memory)
    var properties = DeviceProperties()
    properties.pasidBits = pasidBits
    properties.hasATS = hasATS
    properties.hasPageRequests = hasATS
    try driver.probe(Self.device, properties)
    let domain = try driver.makePagingDomain(.nestParent, for: Self.device)
    guard let parent = domain as? AMDViPagingDomain else { throw Errno.invalidArgument }
    self.parent = parent
    viommu = try driver.makeVirtualIOMMU(
      type: 1, on: parent, for: Self.device, host: RecordingVIOMMUHost(), data: nil)
    let start = try memory.allocateTable(sizeShift: 23)
    guest = AMDViTables(memory, start, base: AMDViTables.hostBase)
    try parent.map(
      IOVA(AMDViTables.hostBase), to: start, length: AMDViTables.size,
      permissions: [.read, .write])
    port = DMAPort(requester: Self.device, amdvi: unit)
    blocker = DeviceBlocker(driver)
    let faults = faults
    driver.setFaultSink { faults.add($0) }
  }

  func attach(_ domain: any Domain, pasid: PASID? = nil) throws(Errno) {
    try driver.attach(domain, to: Self.device, pasid: pasid)
  }

  func makeDomain(_ flags: PagingDomainFlags) throws(Errno) -> AMDViPagingDomain {
    let domain = try driver.makePagingDomain(flags, for: Self.device)
    guard let domain = domain as? AMDViPagingDomain else { throw .invalidArgument }
    return domain
  }

  /// Makes a nested domain from the words of a guest's device table entry.
  func makeNested(
    _ words: [UInt64], on viommu: (any VirtualIOMMU)? = nil, type: UInt32 = 3,
    length: UInt64 = 32
  ) throws(Errno) -> any NestedDomain {
    let memory = TestMemory()
    for (index, word) in words.enumerated() { memory.store(word, at: index * 8) }
    return try (viommu ?? self.viommu).makeNestedDomain(
      for: Self.device, flags: [],
      data: UserData(
        type: type, address: memory.address, length: length, memory: InProcessClient()))
  }

  /// Makes a nested domain from a device table entry with V, TV and GV, a GCR3 table of one level
  /// and a domain ID.
  func makeNested(
    gcr3: UInt64, domain: UInt16 = 1, _ change: (inout DeviceTableEntry) -> Void = { _ in }
  ) throws(Errno) -> any NestedDomain {
    var entry = DeviceTableEntry()
    entry.isValid = true
    entry.isTranslationValid = true
    entry.isGuestValid = true
    entry.guestCR3Table = gcr3
    entry.domain = DomainID(rawValue: domain)
    change(&entry)
    return try makeNested((0..<4).map { entry.words[$0] })
  }

  /// Returns the device table entry of a device.
  func entry(of device: RequesterID = device) throws -> DeviceTableEntry {
    let table = try #require(unit.state.withLock { $0.deviceTable })
    let address = table.base.rawValue + UInt64(device.rawValue) * DeviceTableEntry.size
    let words = try #require(
      memory.loadEntry(PhysicalAddress(address), as: InlineArray<4, UInt64>.self))
    return DeviceTableEntry(words: words)
  }
}

import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

/// An AMD-Vi unit with its driver, a nesting parent with 8 MiB of the machine's memory in it, and a guest
/// there.
struct AMDViMachine {
  static let device = RequesterID.test(1)

  let memory: PhysicalMemory
  let unit: AMDViUnit
  let driver: AMDViDriver
  let parent: AMDViPagingDomain
  let virtual: any VirtualIOMMU
  let guest: AMDViTables
  let port: DMAPort
  let faults = Collector<FaultRecord>()
  private let detaching: Detaching

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
    parent = try #require(domain as? AMDViPagingDomain)
    virtual = try driver.makeVirtualIOMMU(
      type: 1, on: parent, for: Self.device, host: VirtualHost(), data: nil)
    let start = try memory.allocateTable(sizeShift: 23)
    guest = AMDViTables(memory, start, base: AMDViRig.base)
    try parent.map(
      IOVA(AMDViRig.base), to: start, length: AMDViTables.size, permissions: [.read, .write])
    port = DMAPort(requester: Self.device, amdvi: unit)
    detaching = Detaching(driver)
    let faults = faults
    driver.setFaultSink { faults.add($0) }
  }

  func attach(_ domain: any Domain, pasid: PASID? = nil) throws(Errno) {
    try driver.attach(domain, to: Self.device, pasid: pasid)
  }

  func make(_ flags: PagingDomainFlags) throws(Errno) -> AMDViPagingDomain {
    let domain = try driver.makePagingDomain(flags, for: Self.device)
    guard let domain = domain as? AMDViPagingDomain else { throw .invalidArgument }
    return domain
  }

  /// A guest's device table entry.
  func nested(
    _ words: [UInt64], on unit: (any VirtualIOMMU)? = nil, type: UInt32 = 3, length: UInt64 = 32
  ) throws(Errno) -> any NestedDomain {
    let memory = TestMemory()
    for (index, word) in words.enumerated() { memory.store(word, at: index * 8) }
    return try (unit ?? virtual).makeNestedDomain(
      for: Self.device, flags: [],
      data: UserData(
        type: type, address: memory.address, length: length, memory: InProcessClient()))
  }

  /// V, TV and GV, a GCR3 table of one level, and a domain id.
  func nested(
    gcr3: UInt64, domain: UInt16 = 1, _ change: (inout DeviceTableEntry) -> Void = { _ in }
  ) throws(Errno) -> any NestedDomain {
    var entry = DeviceTableEntry()
    entry.isValid = true
    entry.isTranslationValid = true
    entry.isGuestValid = true
    entry.guestCR3Table = gcr3
    entry.domain = DomainID(rawValue: domain)
    change(&entry)
    return try nested((0..<4).map { entry.words[$0] })
  }

  /// The device's entry, as the unit would read it.
  func entry(of device: RequesterID = device) throws -> DeviceTableEntry {
    let table = try #require(unit.state.withLock { $0.deviceTable })
    let place = table.base.rawValue + UInt64(device.rawValue) * DeviceTableEntry.size
    let words = try #require(
      memory.loadEntry(PhysicalAddress(place), as: InlineArray<4, UInt64>.self))
    return DeviceTableEntry(words: words)
  }

  static func failure(_ body: () throws(Errno) -> Void) -> Errno? {
    do throws(Errno) {
      try body()
      return nil
    } catch {
      return error
    }
  }
}

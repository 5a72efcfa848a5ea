import SystemPackage
import Testing

@testable import IOMMU
@testable import IOMMUFD

/// SMMUv3: a guest's context descriptors have the ASID, which is the domain, and the root; two devices with
/// descriptors of their own, in front of one stage 2, which the driver invalidates itself.
struct SMMUv3StalenessWorld: StalenessWorld {
  var model: StalenessModel
  let memory: StalenessMemory
  let ports: [DMAPort]
  private let machine: SMMUv3Machine
  private let descriptors: [UInt64]

  private static let leaf: UInt64 = 1 | 1 << 6 | 3 << 8 | 1 << 10 | 1 << 11
  private static let format = StalenessMemory.Format(
    table: { $0 | 3 }, large: { $0 | leaf },
    page: { $0 | leaf | 2 | ($1 ? 0 : SMMUv3Guest.readOnly) })

  init(_ configuration: SMMUv3Unit.Configuration) throws {
    var configuration = configuration
    configuration.capabilities.ats = true
    machine = try SMMUv3Machine(configuration, hasATS: true)
    let start = try machine.memory.allocateTable(sizeShift: 23)
    let base: UInt64 = 0x8000_0000
    var tables = StalenessMemory(machine.memory, start, base: base, Self.format)
    descriptors = (0..<StalenessModel.devices).map { _ in tables.take() }
    memory = tables
    for (offset, length): (UInt64, UInt64) in [(0, 2 << 20), (4 << 20, 4 << 20)] {
      try machine.parent.map(
        IOVA(base + offset), to: PhysicalAddress(start.rawValue + offset), length: length,
        permissions: [.read, .write])
    }
    var properties = DeviceProperties()
    properties.pasidBits = 16
    properties.hasATS = true
    try machine.driver.probe(Self.requester(0), properties)
    ports = Self.makePorts(configuration.iotlb) { [machine] in
      DMAPort(requester: $0, smmuv3: machine.unit, deviceTLB: $1)
    }
    model = StalenessModel(tagsPASIDs: false, keepsDenials: true, base: base) {
      .init(domain: $0, root: $1 + $0)
    }
    memory.storeAll(model.tables)
    for frame in 0..<StalenessTables.smallFrames { storeHost(frame) }
    for device in 0..<StalenessModel.devices {
      for pasid in 0..<StalenessModel.pasids { store(device, pasid) }
      machine.host.set(Self.requester(device), Self.name(device))
      let entry = try machine.stage1(descriptors[device], plain: 2 | 1 << 28)
      try machine.driver.attach(entry, to: Self.requester(device), pasid: nil)
    }
    model.close()
  }

  private static func name(_ device: Int) -> UInt64 { 0x100 + UInt64(device) }
  private static func asid(_ domain: Int) -> UInt16 { UInt16(domain) + 40 }

  func isSecond(_ pasid: Int) -> Bool { false }
  var answersWithAskedRights: Bool { false }
  var hasHost: Bool { true }

  /// What was there is forgotten by everybody, and never in between.
  mutating func storeHost(_ frame: Int) {
    let address = IOVA(memory.base + StalenessMemory.offset(ofFrame: frame))
    machine.parent.unmap(address, length: 4096)
    #expect(throws: Never.self) {
      try machine.parent.map(
        address, to: memory.place(ofFrame: model.tables.host[frame]), length: 4096,
        permissions: [.read, .write])
    }
    model.forget(model.allTags, nil, structures: true)
    for device in 0..<StalenessModel.devices {
      model.forgetDevice(device, pasid: nil, nil, isSecond: isSecond)
    }
  }

  private func store(_ device: Int, _ pasid: Int) {
    guard let entry = model.entries[device][pasid], let root = entry.root else { return }
    let descriptor = ContextDescriptor.test(
      memory.roots[root], asid: Self.asid(entry.domain ?? 0))
    for index in 0..<8 {
      memory[descriptors[device] + UInt64(pasid) * 64 + UInt64(index) * 8] =
        descriptor.words[index]
    }
  }

  mutating func changeConfiguration(_ random: inout SeededGenerator) {
    let (device, pasid) = StalenessModel.randomPlace(&random)
    model.entries[device][pasid] = .init(
      domain: StalenessModel.randomDomain(&random),
      root: Int.random(in: 0..<StalenessTables.roots, using: &random))
    store(device, pasid)
  }

  mutating func invalidate(_ random: inout SeededGenerator) {
    let (device, pasid) = StalenessModel.randomPlace(&random)
    let domain = StalenessModel.randomDomain(&random)
    let stream = StreamID(rawValue: UInt32(Self.name(device)))
    let (start, shift, range) = randomRange(&random, isSecond: false)
    let page = start...start + 0xfff
    let command: SMMUv3Command
    switch Int.random(in: 0..<16, using: &random) {
    case 0:
      command = .tlbi(Bool.random(using: &random) ? .tlbiAll : .tlbiEverything)
      model.forget(model.allTags, nil, structures: true)
    case 1:
      command = .tlbi(.tlbiASID, asid: Self.asid(domain))
      model.forget([domain], nil, structures: true)
    case 2..<7:
      var address = SMMUv3Command.tlbi(.tlbiAddress, asid: Self.asid(domain))
      address.setAddress(start, isLeaf: Bool.random(using: &random))
      command = address
      model.forget([domain], page, structures: true)
    case 7:
      var address = SMMUv3Command.tlbi(.tlbiAddressAllASIDs)
      address.setAddress(start, isLeaf: true)
      command = address
      model.forget(Array(0..<StalenessModel.domains), page, structures: true)
    case 8..<11:
      command = .invalidateContext(
        stream, substream: PASID(rawValue: UInt32(pasid)), isLeaf: true)
      model.forgetSpaces { other, space, _ in other == device && space == pasid }
    case 11:
      command = SMMUv3Command(lower: 6 | Self.name(device) << 32, upper: 0)
      model.forgetSpaces { other, _, _ in other == device }
    default:
      command = .invalidateATC(
        stream, pasid: pasid == 0 ? nil : PASID(rawValue: UInt32(pasid)), address: IOVA(start),
        sizeShift: shift)
      model.forgetDevice(
        device, pasid: pasid == 0 ? nil : pasid, range, isSecond: isSecond)
    }
    #expect(machine.send([command]).error == nil)
  }
}

import CLinux
import Foundation
import Host
import SystemPackage
import TestSupport

@testable import IOMMU
@testable import IOMMUFD

/// A VT-d unit with its driver, a client's memory, and devices.
struct VTdMachine {
  let memory: PhysicalMemory
  let unit: VTdUnit
  let driver: VTdDriver
  let faults = Collector<FaultRecord>()
  private let detaching: Detaching

  init(_ configuration: VTdUnit.Configuration = .init()) throws {
    memory = try PhysicalMemory(.test)
    unit = VTdUnit(configuration, memory: memory)
    driver = try VTdDriver(unit: unit, memory: memory)
    detaching = Detaching(driver)
    let faults = faults
    driver.setFaultSink { faults.add($0) }
  }

  func port(_ device: UInt8) -> DMAPort {
    DMAPort(requester: .test(device), vtd: unit)
  }

  func domain() throws -> any PagingDomain {
    try driver.makePagingDomain([], for: .test(0))
  }
}

extension RequesterID {
  static func test(_ device: UInt8) -> RequesterID {
    RequesterID(bus: 1, device: device, function: 0)
  }
}

extension DMAPort {
  func load(_ iova: UInt64, pasid: PASID? = nil) -> (DMAOutcome, UInt64) {
    load(iova, DMAAttributes(pasid: pasid))
  }

  func load(_ iova: UInt64, _ attributes: DMAAttributes) -> (DMAOutcome, UInt64) {
    var value: UInt64 = 0
    let outcome = withUnsafeMutableBytes(of: &value) { read(IOVA(iova), attributes, into: $0) }
    return (outcome, value)
  }

  func store(_ value: UInt64, to iova: UInt64, pasid: PASID? = nil) -> DMAOutcome {
    store(value, to: iova, DMAAttributes(pasid: pasid))
  }

  func store(_ value: UInt64, to iova: UInt64, _ attributes: DMAAttributes) -> DMAOutcome {
    withUnsafeBytes(of: value) { write($0, to: IOVA(iova), attributes) }
  }

  func fill(_ iova: UInt64, count: Int, with byte: UInt8) -> DMAOutcome {
    let bytes = [UInt8](repeating: byte, count: count)
    return bytes.withUnsafeBytes { write($0, to: IOVA(iova)) }
  }
}

extension DMAOutcome {
  var reason: VTdFaultReason? {
    if case .fault(let record) = self, case .vtd(let reason) = record.reason { return reason }
    return nil
  }
}

/// A generator whose seed a failing test prints.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    // splitmix64
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }
}

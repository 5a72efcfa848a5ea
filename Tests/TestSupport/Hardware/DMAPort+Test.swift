// SPDX-License-Identifier: Apache-2.0

package import IOMMU

extension RequesterID {
  /// The requester ID 01:`device`.0.
  package static func test(_ device: UInt8) -> RequesterID {
    RequesterID(bus: 1, device: device, function: 0)
  }
}

extension DMAPort {
  /// Reads a word by DMA.
  package func load(_ iova: UInt64, pasid: PASID? = nil) -> (DMAOutcome, UInt64) {
    load(iova, DMAAttributes(pasid: pasid))
  }

  package func load(_ iova: UInt64, _ attributes: DMAAttributes) -> (DMAOutcome, UInt64) {
    var value: UInt64 = 0
    let outcome = withUnsafeMutableBytes(of: &value) { read(IOVA(iova), attributes, into: $0) }
    return (outcome, value)
  }

  /// Writes a word by DMA.
  package func store(_ value: UInt64, to iova: UInt64, pasid: PASID? = nil) -> DMAOutcome {
    store(value, to: iova, DMAAttributes(pasid: pasid))
  }

  package func store(
    _ value: UInt64, to iova: UInt64, _ attributes: DMAAttributes
  ) -> DMAOutcome {
    withUnsafeBytes(of: value) { write($0, to: IOVA(iova), attributes) }
  }

  /// Writes `count` equal bytes in one request.
  package func fill(_ iova: UInt64, count: Int, with byte: UInt8) -> DMAOutcome {
    let bytes = [UInt8](repeating: byte, count: count)
    return bytes.withUnsafeBytes { write($0, to: IOVA(iova)) }
  }
}

extension DMAOutcome {
  /// The VT-d fault reason of a blocked request.
  package var reason: VTdFaultReason? {
    if case .fault(let record) = self, case .vtd(let reason) = record.reason { return reason }
    return nil
  }

  /// The AMD-Vi event of a blocked request.
  package var amdviEvent: AMDViEvent? {
    if case .fault(let record) = self, case .amdvi(let event) = record.reason { return event }
    return nil
  }

  /// The SMMUv3 event of a blocked transaction.
  package var event: SMMUv3Event? {
    if case .fault(let record) = self, case .smmuv3(let event) = record.reason { return event }
    return nil
  }
}

extension ContextDescriptor {
  /// A valid descriptor of a lower-half table with 48 address bits and 4 KiB granules. The upper
  /// half is disabled. Faults are recorded and abort the transaction.
  package static func test(_ root: UInt64, asid: UInt16) -> ContextDescriptor {
    var descriptor = ContextDescriptor()
    descriptor.inputBits = 48
    descriptor.granuleShift = 12
    descriptor.disablesUpperWalks = true
    descriptor.isValid = true
    descriptor.outputSizeField = 2
    descriptor.usesAArch64Tables = true
    descriptor.recordsFaults = true
    descriptor.abortsFaults = true
    descriptor.isPrivate = true
    descriptor.asid = asid
    descriptor.table = PhysicalAddress(root)
    descriptor.memoryAttributes = 0xff
    return descriptor
  }
}

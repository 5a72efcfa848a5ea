// Where one PCI function's requests enter its IOMMU.
//
// A request is translated as a whole before its first byte moves, so a fault on its last page leaves
// memory as it was. The port's lock is held meanwhile, so a function's requests are ordered, and an
// invalidation can wait for what is under way (see PortGate).

internal import Synchronization

package final class DMAPort: Sendable {
  package let requester: RequesterID
  let unit: TranslationUnit
  let memory: PhysicalMemory
  let gate = PortGate()
  /// Of the function behind the port.
  let deviceTLB: DeviceTLB
  /// Whether its transactions may wait for an answer when they fault.
  let canStall: Bool

  /// The port of `requester` in front of a VT-d unit.
  package convenience init(
    requester: RequesterID, vtd unit: VTdUnit, deviceTLB geometry: DeviceTLBGeometry = .init()
  ) {
    self.init(.vtd(unit), unit.memory, DeviceTLB(requester: requester, geometry))
  }

  /// The port of `requester` in front of an SMMUv3.
  /// - Parameter canStall: software may configure its faults to stall; those of other devices terminate
  ///   whatever the configuration (IHI 0070 §3.12).
  package convenience init(
    requester: RequesterID, smmuv3 unit: SMMUv3Unit, canStall: Bool = false,
    deviceTLB geometry: DeviceTLBGeometry = .init()
  ) {
    self.init(
      .smmuv3(unit), unit.memory, DeviceTLB(requester: requester, geometry), canStall: canStall)
  }

  /// The port of `requester` in front of an AMD-Vi unit.
  package convenience init(
    requester: RequesterID, amdvi unit: AMDViUnit, deviceTLB geometry: DeviceTLBGeometry = .init()
  ) {
    self.init(.amdvi(unit), unit.memory, DeviceTLB(requester: requester, geometry))
  }

  private init(
    _ unit: TranslationUnit, _ memory: PhysicalMemory, _ deviceTLB: DeviceTLB,
    canStall: Bool = false
  ) {
    requester = deviceTLB.requester
    self.unit = unit
    self.memory = memory
    self.deviceTLB = deviceTLB
    self.canStall = canStall
    unit.ports.add(gate, deviceTLB)
  }

  deinit { unit.ports.remove(gate) }

  /// A memory read request: fills `buffer` from `iova`. Unless completed, its contents are undefined.
  package func read(
    _ iova: IOVA, _ attributes: DMAAttributes = .init(),
    into buffer: UnsafeMutableRawBufferPointer
  ) -> DMAOutcome {
    guard let start = buffer.baseAddress, buffer.count > 0 else { return .completed }
    let request = DMARequest(
      requester: requester, attributes, iova: iova, count: buffer.count, writes: false)
    return perform(request, usesATS: attributes.usesATS) { memory, segment, offset in
      memory.readInPlace(
        segment.physical,
        into: UnsafeMutableRawBufferPointer(start: start + offset, count: segment.count))
    }
  }

  /// A memory write request: stores `bytes` at `iova`.
  package func write(
    _ bytes: UnsafeRawBufferPointer, to iova: IOVA, _ attributes: DMAAttributes = .init()
  ) -> DMAOutcome {
    guard let start = bytes.baseAddress, bytes.count > 0 else { return .completed }
    let request = DMARequest(
      requester: requester, attributes, iova: iova, count: bytes.count, writes: true)
    return perform(request, usesATS: attributes.usesATS) { memory, segment, offset in
      memory.writeInPlace(
        UnsafeRawBufferPointer(start: start + offset, count: segment.count),
        to: segment.physical)
    }
  }

  @inline(__always)
  private func perform(
    _ request: DMARequest, usesATS: Bool,
    copy: (PhysicalMemory, DMASegment, Int) -> MemoryOutcome
  ) -> DMAOutcome {
    if usesATS { return performTranslated(request, copy: copy) }
    var fault: FaultRecord?
    let isDone = attempt(request, &fault, copy: copy)
    if let fault { return settle(fault, of: request, copy: copy) }
    return isDone ? .completed : .aborted
  }

  /// After a fault, until the request is over.
  @inline(never)
  private func settle(
    _ first: FaultRecord, of request: DMARequest,
    copy: (PhysicalMemory, DMASegment, Int) -> MemoryOutcome
  ) -> DMAOutcome {
    var record = first
    while true {
      if case .over(let outcome) = settle(record) { return outcome }
      var fault: FaultRecord?
      let isDone = attempt(request, &fault, copy: copy)
      guard let fault else { return isDone ? .completed : .aborted }
      record = fault
    }
  }

  /// Moves the request's bytes. The everyday request is done here; it knows nothing of faults, whose
  /// records are too large to be carried through every return.
  /// - Returns: whether all bytes moved; when not, `fault` is set if the unit blocked the request.
  @inline(__always)
  private func attempt(
    _ request: DMARequest, _ fault: inout FaultRecord?,
    copy: (PhysicalMemory, DMASegment, Int) -> MemoryOutcome
  ) -> Bool {
    gate.lock.withLock { _ in
      gate.begin()
      defer { gate.end() }
      if let physical = unit.find(request, gate: gate) {
        return copy(memory, DMASegment(physical: physical, count: request.count), 0) == .done
      }
      return transfer(request, &fault, copy: copy)
    }
  }

  /// ``attempt`` for all other requests.
  @inline(never)
  private func transfer(
    _ request: DMARequest, _ fault: inout FaultRecord?,
    copy: (PhysicalMemory, DMASegment, Int) -> MemoryOutcome
  ) -> Bool {
    let offset = Int(truncatingIfNeeded: request.iova.rawValue & UInt64(Frame.size - 1))
    // Cannot overflow: no buffer is that large.
    let pages = (offset &+ request.count &+ Frame.size &- 1) &>> Frame.shift
    // With a constant the segments are on the stack.
    if pages <= 8 {
      return withUnsafeTemporaryAllocation(of: DMASegment.self, capacity: 8) {
        transfer(request, segments: $0, &fault, copy: copy)
      }
    }
    return withUnsafeTemporaryAllocation(of: DMASegment.self, capacity: pages) {
      transfer(request, segments: $0, &fault, copy: copy)
    }
  }

  @inline(__always)
  private func transfer(
    _ request: DMARequest, segments: UnsafeMutableBufferPointer<DMASegment>,
    _ fault: inout FaultRecord?, copy: (PhysicalMemory, DMASegment, Int) -> MemoryOutcome
  ) -> Bool {
    switch unit.translate(request, gate: gate, segments: segments) {
    case .fault(let record):
      fault = record
      return false
    case .unclaimed:
      return false
    case .mapped(let count):
      var index = 0
      var offset = 0
      while index < count {
        let segment = segments[index]
        guard copy(memory, segment, offset) == .done else { return false }
        offset &+= segment.count
        index &+= 1
      }
      return true
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

// The port through which the requests of one PCI function enter its IOMMU. The function's model
// owns the port.
//
// The port translates a whole request before it moves the first byte, so a fault on the last page
// leaves memory unchanged. It holds its lock meanwhile. Therefore the requests of one function are
// ordered, and an invalidation can wait for the request in flight (see InFlightRequest).

internal import Synchronization

package final class DMAPort: Sendable {
  package let requester: RequesterID
  let unit: TranslationUnit
  let memory: PhysicalMemory
  let inFlight = InFlightRequest()
  /// The device TLB of the function behind the port.
  let deviceTLB: DeviceTLB
  /// Whether a faulting transaction of the function may stall (SMMUv3).
  let canStall: Bool

  /// Makes the port of `requester` in front of a VT-d unit.
  package convenience init(
    requester: RequesterID, vtd unit: VTdUnit, deviceTLB geometry: DeviceTLBGeometry = .init()
  ) {
    self.init(.vtd(unit), unit.memory, DeviceTLB(requester: requester, geometry))
  }

  /// Makes the port of `requester` in front of an SMMUv3.
  /// - Parameter canStall: whether software can configure the function's faults to stall. Faults of
  ///   other functions terminate the transaction whatever the configuration (IHI 0070 §3.12).
  package convenience init(
    requester: RequesterID, smmuv3 unit: SMMUv3Unit, canStall: Bool = false,
    deviceTLB geometry: DeviceTLBGeometry = .init()
  ) {
    self.init(
      .smmuv3(unit), unit.memory, DeviceTLB(requester: requester, geometry), canStall: canStall)
  }

  /// Makes the port of `requester` in front of an AMD-Vi unit.
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
    unit.ports.add(inFlight, deviceTLB)
  }

  deinit { unit.ports.remove(inFlight) }

  /// Performs a memory read request: fills `buffer` from `iova`. The contents of `buffer` are
  /// undefined unless the outcome is `completed`.
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

  /// Performs a memory write request: stores `bytes` at `iova`.
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
    if usesATS { return performWithDeviceTLB(request, copy: copy) }
    var fault: FaultRecord?
    let isDone = attempt(request, &fault, copy: copy)
    if let fault { return handleFault(fault, of: request, copy: copy) }
    return isDone ? .completed : .aborted
  }

  /// Reports a fault, and repeats the request as long as software answers with a retry.
  @inline(never)
  private func handleFault(
    _ first: FaultRecord, of request: DMARequest,
    copy: (PhysicalMemory, DMASegment, Int) -> MemoryOutcome
  ) -> DMAOutcome {
    var record = first
    while true {
      if case .ended(let outcome) = stallOrTerminate(record) { return outcome }
      var fault: FaultRecord?
      let isDone = attempt(request, &fault, copy: copy)
      guard let fault else { return isDone ? .completed : .aborted }
      record = fault
    }
  }

  /// Translates the request and moves its bytes. The fault record is an `inout` parameter because
  /// it is too large to be part of every return value.
  /// - Returns: whether all bytes moved. If not, `fault` is set when the unit blocked the request.
  @inline(__always)
  private func attempt(
    _ request: DMARequest, _ fault: inout FaultRecord?,
    copy: (PhysicalMemory, DMASegment, Int) -> MemoryOutcome
  ) -> Bool {
    inFlight.lock.withLock { _ in
      inFlight.begin()
      defer { inFlight.end() }
      if inFlight.expectsHit,
        let physical = unit.cachedAddress(of: request, inFlight: inFlight)
      {
        return copy(memory, DMASegment(physical: physical, count: request.count), 0) == .done
      }
      return transfer(request, &fault, copy: copy)
    }
  }

  /// Performs a request that is not within one page, misses the IOTLB, or follows a miss.
  @inline(never)
  private func transfer(
    _ request: DMARequest, _ fault: inout FaultRecord?,
    copy: (PhysicalMemory, DMASegment, Int) -> MemoryOutcome
  ) -> Bool {
    inFlight.beginGeneralPath()
    let offset = Int(truncatingIfNeeded: request.iova.rawValue & UInt64(Frame.size - 1))
    // The sum cannot overflow: no buffer is that large.
    let pages = (offset &+ request.count &+ Frame.size &- 1) &>> Frame.shift
    // A constant capacity puts the segments on the stack.
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
    switch unit.translate(request, inFlight: inFlight, segments: segments) {
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

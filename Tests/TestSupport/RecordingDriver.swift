// SPDX-License-Identifier: Apache-2.0

// A driver without hardware. A domain is a dictionary of mappings, and the driver records the
// attachments. A test can make calls fail.

package import IOMMU
package import IOMMUFD
internal import Synchronization
package import SystemPackage

package final class RecordingDriver: IOMMUDriver {
  package struct Attachment: Hashable, Sendable {
    package let device: RequesterID
    package let pasid: PASID?
    package init(_ device: RequesterID, _ pasid: PASID? = nil) {
      self.device = device
      self.pasid = pasid
    }
  }

  private struct State {
    var attachments: [Attachment: RecordingDomain] = [:]
    var reserved: [RequesterID: [ReservedRegion]] = [:]
    var attachFailure: Errno?
    var refused: Set<RequesterID> = []
    var domainFailure: Errno?
    var domainsMade = 0
    var faultSink: FaultSink?
  }

  private let state = Mutex(State())
  private let coherency: Bool
  private let aperture: ClosedRange<UInt64>
  private let pageSizes: UInt64

  package init(
    enforcesCacheCoherency: Bool = true, aperture: ClosedRange<UInt64> = 0...(1 << 48 - 1),
    pageSizes: UInt64 = 0x4020_1000
  ) {
    coherency = enforcesCacheCoherency
    self.aperture = aperture
    self.pageSizes = pageSizes
  }

  // MARK: For tests

  package func setReservedRegions(_ regions: [ReservedRegion], of device: RequesterID) {
    state.withLock { $0.reserved[device] = regions }
  }

  /// Makes every attach throw `error`, until `nil` is set.
  package func failAttaches(with error: Errno?) { state.withLock { $0.attachFailure = error } }
  /// Makes every attach of `device` throw EINVAL.
  package func refuse(_ device: RequesterID) { state.withLock { _ = $0.refused.insert(device) } }
  /// Makes every new domain throw `error`, until `nil` is set.
  package func failDomains(with error: Errno?) { state.withLock { $0.domainFailure = error } }

  /// Reports a fault to the fault sink.
  package func fault(_ record: FaultRecord) { state.withLock { $0.faultSink }?(record) }

  package func domain(
    of device: RequesterID, pasid: PASID? = nil
  ) -> RecordingDomain? {
    state.withLock { $0.attachments[Attachment(device, pasid)] }
  }
  package var domainsMade: Int { state.withLock { $0.domainsMade } }

  // MARK: IOMMUDriver

  package func reservedRegions(of device: RequesterID) -> [ReservedRegion] {
    state.withLock { $0.reserved[device] ?? [] }
  }

  package func enforcesCacheCoherency(for device: RequesterID) -> Bool { coherency }

  package func makePagingDomain(
    _ flags: PagingDomainFlags, for device: RequesterID, data: UserData?
  ) throws(Errno) -> any PagingDomain {
    let failure = state.withLock { state in
      if state.domainFailure == nil { state.domainsMade += 1 }
      return state.domainFailure
    }
    if let failure { throw failure }
    return RecordingDomain(aperture: aperture, pageSizes: pageSizes, coherency: coherency)
  }

  package func attach(
    _ new: DomainAttachment, to device: RequesterID, pasid: PASID?,
    replacing _: DomainAttachment?
  ) throws(Errno) {
    guard let domain = new.domain as? RecordingDomain else { throw .invalidArgument }
    let failure: Errno? = state.withLock { state in
      if let failure = state.attachFailure { return failure }
      if state.refused.contains(device) { return .invalidArgument }
      state.attachments[Attachment(device, pasid)] = domain
      return nil
    }
    if let failure { throw failure }
  }

  package func setFaultSink(_ sink: FaultSink?) { state.withLock { $0.faultSink = sink } }

  package func block(_ device: RequesterID, pasid: PASID?) {
    state.withLock { $0.attachments[Attachment(device, pasid)] = nil }
  }
}

package final class RecordingDomain: PagingDomain {
  package struct Mapping: Equatable, Sendable {
    package let physical: PhysicalAddress
    package let length: UInt64
    package let permissions: Permissions
  }

  package let aperture: ClosedRange<UInt64>
  package let pageSizes: UInt64
  private let coherency: Bool
  private let state = Mutex<[UInt64: Mapping]>([:])

  init(aperture: ClosedRange<UInt64>, pageSizes: UInt64, coherency: Bool) {
    self.aperture = aperture
    self.pageSizes = pageSizes
    self.coherency = coherency
  }

  /// The mappings by their first IOVA.
  package var mappings: [UInt64: Mapping] { state.withLock { $0 } }
  package var mappedBytes: UInt64 { mappings.values.reduce(0) { $0 + $1.length } }

  package func enforceCacheCoherency() -> Bool { coherency }

  package func map(
    _ iova: IOVA, to physical: PhysicalAddress, length: UInt64, permissions: Permissions
  ) throws(Errno) {
    state.withLock {
      $0[iova.rawValue] = Mapping(physical: physical, length: length, permissions: permissions)
    }
  }

  /// Removes whole mappings.
  @discardableResult
  package func unmap(_ iova: IOVA, length: UInt64) -> UInt64 {
    state.withLock { mappings in
      var done: UInt64 = 0
      while done < length, let mapping = mappings.removeValue(forKey: iova.rawValue + done) {
        done += mapping.length
      }
      return done
    }
  }

  package func physicalAddress(of iova: IOVA) -> PhysicalAddress? {
    state.withLock { mappings in
      for (start, mapping) in mappings where iova.rawValue >= start {
        let offset = iova.rawValue - start
        if offset < mapping.length {
          return PhysicalAddress(mapping.physical.rawValue + offset)
        }
      }
      return nil
    }
  }
}

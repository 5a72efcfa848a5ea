// SPDX-License-Identifier: Apache-2.0

/// A request that the unit blocked.
package struct FaultRecord: Hashable, Sendable {
  package let requester: RequesterID
  package let pasid: PASID?
  /// The first address that the unit could not translate.
  package let iova: IOVA
  package let access: Permissions
  package let reason: FaultReason
  /// Whether the configuration tables suppress recording of this fault (VT-d: FPD; SMMUv3: CD.R,
  /// STE.S2R; AMD-Vi: SA, SE).
  package let isSuppressed: Bool
  package var addressType = DMAAddressType.untranslated

  /// Whether the request was to write (an atomic operation would both read and write).
  package var writes: Bool { !access.isDisjoint(with: [.write, .privilegedWrite]) }
  package var executes: Bool { !access.isDisjoint(with: [.execute, .privilegedExecute]) }
  package var isPrivileged: Bool {
    !access.isDisjoint(with: [.privilegedRead, .privilegedWrite, .privilegedExecute])
  }
}

extension FaultRecord {
  /// Makes the record of a blocked memory request or translation request.
  /// - Parameter address: the first address without a translation.
  init(_ request: DMARequest, _ reason: FaultReason, at address: IOVA, isSuppressed: Bool) {
    requester = request.requester
    pasid = request.pasid
    iova = address
    access = request.access
    self.reason = reason
    self.isSuppressed = isSuppressed
    addressType = request.addressType
  }
}

/// The reason of a fault, in the terms of the unit's architecture.
package enum FaultReason: Hashable, Sendable {
  case vtd(VTdFaultReason)
  case smmuv3(SMMUv3Event)
  case amdvi(AMDViEvent)

  /// The fault reason or event code in the unit's own fault records.
  package var code: UInt8 {
    switch self {
    case .vtd(let reason): reason.rawValue
    case .smmuv3(let event): event.kind.rawValue
    case .amdvi(let event): event.kind.rawValue
    }
  }
}

/// The function that a unit calls for every fault that it records. The thread that issued the
/// request calls it without any lock of the unit, but with the lock of the port: the function must
/// not issue requests itself.
package typealias FaultSink = @Sendable (FaultRecord) -> Void

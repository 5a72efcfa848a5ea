// SPDX-License-Identifier: Apache-2.0

// The extension `vtd-invalidation-errors`: IOMMU_HWPT_INVALIDATE of a VT-d nested domain as it was
// proposed in December 2023. An entry of that form (struct iommufd_sim_vtd_s1_invalidate) ends with
// two members more than the kernel's, in which the call stores the error of the hardware and the
// device whose operation failed. The proposal counts an entry as handled when the hardware has got
// it, whatever the outcome, and goes on with the next entry.
//
// The extension also adds a vIOMMU type to VT-d drivers (VTdVirtualIOMMU.swift), so that VT-d
// devices can have a vDEVICE, and a command that plans failures (InvalidationFailureCommand.swift).
// It has no state of its own: the VT-d unit keeps the planned failures.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

final class InvalidationErrors: ExtensionHooks {
  private typealias Entry = iommufd_sim_vtd_s1_invalidate

  func invalidate(
    _ hwpt: NestedHWPT, _ entries: UserDataArray, handled: inout Int
  ) throws(Errno) -> Bool {
    guard let domain = hwpt.domain as? VTdNestedDomain,
      entries.type == IOMMU_HWPT_INVALIDATE_DATA_VTD_S1.rawValue,
      entries.entryLength == MemoryLayout<Entry>.size
    else { return false }
    try invalidate(domain, entries, handled: &handled, in: hwpt.context)
    return true
  }

  private func invalidate(
    _ domain: VTdNestedDomain, _ entries: UserDataArray, handled: inout Int, in context: Context
  ) throws(Errno) {
    for index in 0..<entries.count {
      let entry = try entries.load(
        Entry.self, at: index, type: IOMMU_HWPT_INVALIDATE_DATA_VTD_S1.rawValue,
        minimumThrough: \.dev_id)
      let invalidation = try VTdGuestInvalidation(
        iommu_hwpt_vtd_s1_invalidate(
          addr: entry.addr, npages: entry.npages, flags: entry.flags, __reserved: entry.__reserved))
      let failure = invalidation.submitOnce(to: domain.usage)
      try entries.store(
        Answer(
          error: failure?.error.bit ?? 0,
          device: failure.map { context.clientID(of: $0.requester) } ?? 0),
        at: index, offset: MemoryLayout<Entry>.start(of: \.error))
      handled += 1
    }
  }

  func deviceIsUnbound(_ device: BoundDevice) {
    device.vtdUnit?.removePlannedFailures(of: device.device.requesterID)
  }

  /// The last two members of an entry, `error` and `dev_id`.
  private struct Answer: BitwiseCopyable {
    let error: UInt32
    let device: UInt32
  }
}

extension Context {
  /// Returns the number by which the client knows a device: the virtual ID of its vDEVICE, without
  /// one the object ID of the bound device. 0 for a requester that is not bound to this context.
  fileprivate func clientID(of requester: RequesterID) -> UInt32 {
    lock.withLock {
      let device = objects.all(BoundDevice.self).first { $0.device.requesterID == requester }
      guard let device else { return 0 }
      return device.virtualDevice.map { UInt32(truncatingIfNeeded: $0.virtualID) }
        ?? device.id.rawValue
    }
  }
}

extension BoundDevice {
  /// The VT-d unit in front of the device. `nil` for a unit of another kind.
  var vtdUnit: VTdUnit? { (device.driver as? VTdDriver)?.unit }
}

extension VTdInvalidationError {
  /// - Parameter bit: one bit of `iommufd_sim_vtd_s1_invalidate.error`.
  init?(bit: UInt32) {
    switch bit {
    case IOMMUFD_SIM_VTD_S1_INVALIDATE_ICE.rawValue: self = .completion
    case IOMMUFD_SIM_VTD_S1_INVALIDATE_ITE.rawValue: self = .timeout
    case IOMMUFD_SIM_VTD_S1_INVALIDATE_IQE.rawValue: self = .queue
    default: return nil
    }
  }

  fileprivate var bit: UInt32 {
    switch self {
    case .completion: IOMMUFD_SIM_VTD_S1_INVALIDATE_ICE.rawValue
    case .timeout: IOMMUFD_SIM_VTD_S1_INVALIDATE_ITE.rawValue
    case .queue: IOMMUFD_SIM_VTD_S1_INVALIDATE_IQE.rawValue
    }
  }
}

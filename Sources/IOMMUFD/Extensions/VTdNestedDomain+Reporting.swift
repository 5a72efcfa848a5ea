// IOMMU_HWPT_INVALIDATE of a VT-d nested domain as it was proposed in December 2023: every entry is told
// what the hardware had to say. The proposal counts an entry as handled once the hardware had it, with
// whatever outcome, and goes on; so does this.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

extension VTdNestedDomain {
  private typealias Entry = iommufd_sim_vtd_s1_invalidate
  static var reportingEntryLength: Int { MemoryLayout<iommufd_sim_vtd_s1_invalidate>.size }

  /// - Parameter name: what the client calls a device.
  func invalidate(
    reporting entries: UserDataArray, handled: inout Int, name: (RequesterID) -> UInt32
  ) throws(Errno) {
    for index in 0..<entries.count {
      let entry = try entries.load(
        Entry.self, at: index, type: IOMMU_HWPT_INVALIDATE_DATA_VTD_S1.rawValue,
        minimumThrough: \.dev_id)
      let invalidation = try VTdGuestInvalidation(
        iommu_hwpt_vtd_s1_invalidate(
          addr: entry.addr, npages: entry.npages, flags: entry.flags, __reserved: entry.__reserved))
      let failure = invalidation.submitOnce(to: links)
      try entries.store(
        Answer(error: failure?.error.bit ?? 0, device: failure.map { name($0.requester) } ?? 0),
        at: index, offset: MemoryLayout<Entry>.start(of: \.error))
      handled += 1
    }
  }

  /// The end of an entry.
  private struct Answer: BitwiseCopyable {
    let error: UInt32
    let device: UInt32
  }
}

extension Context {
  /// Whether these entries are of the form with an answer.
  func reportsErrors(for entries: UserDataArray) -> Bool {
    extensions.reportsInvalidationErrors
      && entries.type == IOMMU_HWPT_INVALIDATE_DATA_VTD_S1.rawValue
      && entries.entryLength == VTdNestedDomain.reportingEntryLength
  }

  /// What the client calls a device: what its guest does, if that knows it.
  func clientID(of requester: RequesterID) -> UInt32 {
    lock.withLock {
      let device = objects.all(BoundDevice.self).first { $0.device.requesterID == requester }
      guard let device else { return 0 }
      return device.virtualDevice.map { UInt32(truncatingIfNeeded: $0.virtualID) }
        ?? device.id.rawValue
    }
  }
}

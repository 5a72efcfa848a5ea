// SPDX-License-Identifier: Apache-2.0

internal import IOMMU
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// Devices that the hardware cannot isolate from each other (struct iommu_group). A group has one
/// owner, and all its devices are attached to the same domains. All contexts share it; its lock is
/// a leaf.
package final class IOMMUGroup: Sendable {
  struct Member: Sendable {
    let requesterID: RequesterID
    let driver: any IOMMUDriver
    let pasidWidth: Int
    /// Whether the device has PASID support, if only for PASID 0, so that the attach of a PASID
    /// beyond its width fails. A device without such support is left out when a PASID of the group
    /// is attached.
    let refusesOtherPASIDs: Bool
    /// Whether firmware requires that the device can access some memory at all times, so that its
    /// DMA cannot be blocked.
    let needsDirectMapping: Bool

    fileprivate func takesPart(in pasid: PASID?) -> Bool { pasid == nil || refusesOtherPASIDs }
  }

  private struct State {
    var members: [Member] = []
    /// The context that owns the DMA of the group.
    var owner: ObjectIdentifier?
    /// The number of bound devices.
    var claims = 0
    var handles = AttachmentHandles()
  }

  package let id: Int
  private let state = Mutex(State())

  package init(id: Int) {
    self.id = id
  }

  var members: [Member] { state.withLock { $0.members } }

  func add(_ member: Member) {
    state.withLock { $0.members.append(member) }
  }

  // MARK: Ownership

  /// Claims the DMA of the group for `owner`, once per bound device. iommu_device_claim_dma_owner()
  /// - Throws: `.notPermitted` when another context owns it; `.invalidArgument` when a member
  ///   cannot be blocked (__iommu_device_set_domain()).
  func claim(for owner: Context) throws(Errno) {
    let claimant = ObjectIdentifier(owner)
    try state.withLock { state throws(Errno) in
      if state.claims == 0 {
        guard !state.members.contains(where: \.needsDirectMapping) else { throw .invalidArgument }
        state.owner = claimant
      }
      guard state.owner == claimant else { throw .notPermitted }
      state.claims += 1
    }
  }

  /// iommu_device_release_dma_owner()
  func releaseClaim() {
    state.withLock { state in
      state.claims -= 1
      if state.claims == 0 { state.owner = nil }
    }
  }

  // MARK: Attaching

  /// Attaches every member to a domain. After a failure the members that were attached are back at
  /// `previous`. iommu_attach_group_handle(), iommu_replace_group_handle(); for a PASID
  /// iommu_attach_device_pasid(), iommu_replace_device_pasid()
  /// - Throws: what the driver throws; `.notSupported` for a PASID and a domain without PASIDs;
  ///   `.invalidArgument` for a PASID that is too wide for a member.
  func attach(
    _ new: DomainAttachment, pasid: PASID?, previous: DomainAttachment?
  ) throws(Errno) {
    if pasid != nil, !new.domain.hasPASIDAttach { throw .notSupported }
    let members = members.filter { $0.takesPart(in: pasid) }
    if let pasid, members.contains(where: { pasid.rawValue >> $0.pasidWidth != 0 }) {
      throw .invalidArgument
    }
    var attached: [Member] = []
    for member in members {
      do throws(Errno) {
        try FaultInjection.step()
        try member.driver.attach(
          new, to: member.requesterID, pasid: pasid, replacing: previous)
        attached.append(member)
      } catch {
        for member in attached { member.restore(previous, from: new, pasid: pasid) }
        throw error
      }
    }
  }

  /// Blocks the DMA of every member. iommu_detach_group_handle()
  func block(pasid: PASID?) {
    for member in members where member.takesPart(in: pasid) {
      member.driver.block(member.requesterID, pasid: pasid)
    }
  }

  // MARK: Page requests

  /// Sets the attachment that page requests with `pasid` come through. `nil` after a detach.
  func setHandle(_ handle: AttachmentHandle?, pasid: PASID?) {
    state.withLock { $0.handles[pasid] = handle }
  }

  func handler(for pasid: PASID?, driver: any IOMMUDriver) -> AttachmentHandle? {
    state.withLock {
      $0.handles.handler(for: pasid, hasUserPASIDTable: driver.hasUserPASIDTable)
    }
  }
}

extension IOMMUGroup.Member {
  /// Attaches the member to the domain that it had before. A driver must not fail at that; when one
  /// does, DMA stays blocked.
  fileprivate func restore(
    _ previous: DomainAttachment?, from new: DomainAttachment, pasid: PASID?
  ) {
    guard let previous else { return driver.block(requesterID, pasid: pasid) }
    do throws(Errno) {
      try driver.attach(previous, to: requesterID, pasid: pasid, replacing: new)
    } catch {
      driver.block(requesterID, pasid: pasid)
    }
  }
}

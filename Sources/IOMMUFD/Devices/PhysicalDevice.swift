// A device of the machine as the kernel's core knows it (struct device and struct iommu_group), before
// and after anybody binds it.

package import IOMMU
internal import Synchronization
internal import SystemPackage
internal import UAPI

package final class PhysicalDevice: Sendable {
  package let name: String
  package let requesterID: RequesterID
  /// Of the unit in front of it.
  package let driver: any IOMMUDriver
  package let group: IOMMUGroup
  /// log2 of the number of PASIDs the device can use; 0 without PASID capability.
  package let pasidWidth: Int
  /// What firmware says of its IOVAs, beside what its unit says.
  private let firmwareRegions: [ReservedRegion]
  /// Who is told of failed DMA: the context that the device is bound to.
  private let listener = Mutex<FaultListener?>(nil)
  /// Page requests whose group is not complete yet.
  private let partialRequests = Mutex<[PageRequest]>([])

  /// Requests of one device that wait for the last of their group.
  private static let partialLimit = 512

  package init(
    name: String, requesterID: RequesterID, driver: any IOMMUDriver, group: IOMMUGroup,
    pasidWidth: Int = 0, refusesOtherPASIDs: Bool = false, firmwareRegions: [ReservedRegion] = []
  ) {
    self.name = name
    self.requesterID = requesterID
    self.driver = driver
    self.group = group
    self.pasidWidth = pasidWidth
    self.firmwareRegions = firmwareRegions
    group.add(
      .init(
        requesterID: requesterID, driver: driver, pasidWidth: pasidWidth,
        refusesOtherPASIDs: refusesOtherPASIDs || pasidWidth > 0,
        needsDirectMapping: firmwareRegions.contains { $0.kind == .direct }))
  }

  /// IOVAs that no client may use. iommu: iommu_get_resv_regions()
  var reservedRegions: [ReservedRegion] {
    driver.reservedRegions(of: requesterID) + firmwareRegions
  }

  func setListener(_ listener: FaultListener?) {
    self.listener.withLock { $0 = listener }
  }

  /// Passes on what the unit recorded of this device. Called by the thread of the DMA.
  func report(_ record: FaultRecord) {
    listener.withLock { $0 }?.report(record)
  }

  /// Leads a page request of this device to who answers it: the whole group of requests when this is
  /// the last of it. Called by the thread of the DMA. iommu: iommu_report_device_fault()
  func report(_ request: PageRequest) {
    let handler = group.handler(for: request.pasid, driver: driver)
    let requests = partialRequests.withLock { partial -> [PageRequest]? in
      guard request.isLast else {
        if handler != nil, partial.count < Self.partialLimit { partial.append(request) }
        return nil
      }
      defer { partial.removeAll { $0.group == request.group } }
      return partial.filter { $0.group == request.group } + [request]
    }
    guard let requests else { return }
    guard let handler, let queue = handler.faultQueue else {
      return driver.respond(to: request.groupID, .invalid)
    }
    queue.deliver(.init(requests: requests, attachment: handler, driver: driver))
  }
}

/// Devices that the hardware cannot isolate from each other, and that therefore have one owner and
/// translate alike. Shared by all contexts; its lock is a leaf.
package final class IOMMUGroup: Sendable {
  struct Member: Sendable {
    let requesterID: RequesterID
    let driver: any IOMMUDriver
    let pasidWidth: Int
    /// The device knows PASIDs, if only 0, and cannot have those beyond its width. One that does not has
    /// no part in what a PASID of its group is attached to.
    let refusesOtherPASIDs: Bool
    /// Firmware wants it to reach some memory at all times, so it cannot be blocked.
    let needsDirectMapping: Bool

    fileprivate func takesPart(in pasid: PASID?) -> Bool { pasid == nil || refusesOtherPASIDs }
  }

  private struct State {
    var members: [Member] = []
    var owner: ObjectIdentifier?
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

  /// Takes the group's DMA for `owner`; once per device that is bound. iommu_device_claim_dma_owner()
  /// - Throws: `.notPermitted` when it belongs to another context; `.invalidArgument` when a member
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

  /// Makes DMA of every member go through `domain`; members attached before a failure go back to
  /// `previous`. iommu_attach_group_handle(), iommu_replace_group_handle(), and for a PASID
  /// iommu_attach_device_pasid(), iommu_replace_device_pasid()
  /// - Throws: `.invalidArgument` also for a PASID that is beyond what a member can have.
  func attach(
    _ new: DomainAttachment, pasid: PASID?, previous: DomainAttachment?
  ) throws(Errno) {
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

  /// Who answers page requests from now on; nil: nobody.
  func setHandle(_ handle: AttachmentHandle?, pasid: PASID?) {
    state.withLock { $0.handles[pasid] = handle }
  }

  fileprivate func handler(for pasid: PASID?, driver: any IOMMUDriver) -> AttachmentHandle? {
    state.withLock {
      $0.handles.handler(for: pasid, hasUserPASIDTable: driver.hasUserPASIDTable)
    }
  }

  /// Blocks DMA of every member. iommu_detach_group_handle()
  func block(pasid: PASID?) {
    for member in members where member.takesPart(in: pasid) {
      member.driver.block(member.requesterID, pasid: pasid)
    }
  }
}

extension IOMMUGroup.Member {
  /// Going back to a domain that worked before is a driver's duty; one that fails leaves DMA blocked.
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

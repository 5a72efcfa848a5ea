// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
internal import IOMMU
internal import SystemPackage

/// One entry of IOMMU_HWPT_INVALIDATE for a VT-d nested domain.
struct VTdGuestInvalidation {
  private let range: VTdFlushRange
  private let isLeaf: Bool

  init(_ entry: iommu_hwpt_vtd_s1_invalidate) throws(Errno) {
    let leaf = IOMMU_VTD_INV_FLAGS_LEAF.rawValue
    guard entry.flags & ~leaf == 0, entry.__reserved == 0 else { throw .notSupported }
    guard entry.addr & 0xfff == 0, entry.npages != .max || entry.addr == 0 else {
      throw .invalidArgument
    }
    // The sum can wrap, and it is less than the address when there is no page.
    range = VTdFlushRange(
      IOVA(entry.addr), through: IOVA(entry.addr &+ entry.npages &<< 12 &- 1))
    isLeaf = entry.flags & leaf != 0
  }

  /// Invalidates the caches of a domain and waits until the unit has finished. A command that times
  /// out is submitted again. The driver clears any other error of the hardware without a report
  /// (qi_check_fault()).
  func submit(to usage: VTdDomainUsage) {
    let (tags, uses) = usage.tagsAndUses
    for tag in tags {
      var failure = tag.failure(among: uses)
      while failure?.error == .timeout { failure = tag.failure(among: uses) }
      if failure == nil { flush(tag) }
    }
  }

  /// Invalidates the caches of a domain until a command fails.
  /// - Returns: The error and the device of the failed command, or `nil`.
  func submitOnce(
    to usage: VTdDomainUsage
  ) -> (error: VTdInvalidationError, requester: RequesterID)? {
    let (tags, uses) = usage.tagsAndUses
    for tag in tags {
      if let failure = tag.failure(among: uses) { return failure }
      flush(tag)
    }
    return nil
  }

  private func flush(_ tag: VTdCacheTag) {
    [tag].flush(range, usesFirstStage: true, isLeaf: isLeaf)
  }
}

extension VTdCacheTag {
  /// Returns the error, if there is one, of the command that invalidates this cache.
  fileprivate func failure(
    among uses: [VTdDomainUse]
  ) -> (error: VTdInvalidationError, requester: RequesterID)? {
    switch cache {
    case .deviceTLB(let requester):
      driver.unit.plannedFailure(of: .deviceTLB(requester))
    case .iotlb:
      driver.unit.plannedFailure(
        of: .iotlb(
          uses.filter { $0.driver === driver && $0.pasid == pasid }.map(\.device.requester)))
    }
  }
}

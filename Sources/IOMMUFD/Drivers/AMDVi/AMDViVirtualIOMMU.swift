// SPDX-License-Identifier: Apache-2.0

// The driver's side of a vIOMMU on an AMD-Vi unit (struct amd_iommu_viommu). The uAPI describes no
// commands for it. It maps the guest's domain IDs to domain IDs of the unit, so that equal domain
// IDs of two guests have different tags in the IOTLB.

internal import CUAPI
internal import IOMMU
internal import Synchronization
internal import SystemPackage

final class AMDViVirtualIOMMU: VirtualIOMMU {
  /// The host's domain ID for one of the guest's domain IDs (struct guest_domain_mapping_info).
  private struct Mapping {
    let host: DomainID
    var users: Int
  }

  let parent: AMDViPagingDomain
  private let guestTableInterface: AMDViDriver.GuestTableInterface
  /// The mappings by the guest's domain IDs.
  private let mappings = Mutex<[DomainID: Mapping]>([:])

  init(on parent: AMDViPagingDomain, _ guestTableInterface: AMDViDriver.GuestTableInterface) {
    self.parent = parent
    self.guestTableInterface = guestTableInterface
  }

  /// amd: amd_iommu_alloc_domain_nested(), which nothing calls in Linux 7.3. It ignores the flags.
  func makeNestedDomain(
    for device: RequesterID, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> any NestedDomain {
    guard guestTableInterface == .uapi else { throw .notSupported }
    return try AMDViNestedDomain(of: self, data: data)
  }

  /// Returns the host's domain ID for the guest's domain ID `guest`, and counts one more user of
  /// it.
  /// - Throws: `.noSpace` when no domain ID is free.
  func acquireHostDomain(for guest: DomainID) throws(Errno) -> DomainID {
    try mappings.withLock { mappings throws(Errno) in
      if let mapping = mappings[guest] {
        mappings[guest]?.users += 1
        return mapping.host
      }
      let host = try parent.platform.domainIDs.allocateDomainID()
      mappings[guest] = Mapping(host: host, users: 1)
      parent.addGuestDomain(host)
      return host
    }
  }

  /// Counts one user less of the host's domain ID for `guest`, and releases the domain ID with the
  /// last user (amd: nested_domain_free()).
  func releaseHostDomain(for guest: DomainID) {
    mappings.withLock { mappings in
      guard let mapping = mappings[guest] else { return }
      guard mapping.users == 1 else {
        mappings[guest]?.users -= 1
        return
      }
      mappings[guest] = nil
      parent.removeGuestDomain(mapping.host)
      parent.platform.domainIDs.release(mapping.host)
    }
  }
}

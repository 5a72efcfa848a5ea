// A guest's slice of an AMD-Vi unit (struct amd_iommu_viommu). It has no commands of its own yet: the uAPI
// describes none. What it keeps is which of the unit's domain ids each of the guest's became, so that
// equal ids of two guests do not meet in the IOTLB.

internal import CUAPI
internal import IOMMU
internal import Synchronization
internal import SystemPackage

final class AMDViVirtualIOMMU: VirtualIOMMU {
  /// struct guest_domain_mapping_info
  private struct Mapping {
    let host: DomainID
    var users: Int
  }

  let parent: AMDViPagingDomain
  private let guestTables: AMDViDriver.GuestTables
  private let mappings = Mutex<[DomainID: Mapping]>([:])

  init(on parent: AMDViPagingDomain, guestTables: AMDViDriver.GuestTables) {
    self.parent = parent
    self.guestTables = guestTables
  }

  /// amd: amd_iommu_alloc_domain_nested(), which nothing calls in 7.3. It looks at no flag.
  func makeNestedDomain(
    for device: RequesterID, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> any NestedDomain {
    guard guestTables == .asUAPI else { throw .notSupported }
    return try AMDViNestedDomain(of: self, data: data)
  }

  /// The unit's id for a guest's, one user more.
  /// - Throws: `.noSpace` when all are taken.
  func takeDomain(_ guest: DomainID) throws(Errno) -> DomainID {
    try mappings.withLock { mappings throws(Errno) in
      if let mapping = mappings[guest] {
        mappings[guest]?.users += 1
        return mapping.host
      }
      let host = DomainID(rawValue: try parent.driver.domainIDs.take())
      mappings[guest] = Mapping(host: host, users: 1)
      parent.addGuestDomain(host)
      return host
    }
  }

  /// One user less. amd: nested_domain_free()
  func giveDomain(_ guest: DomainID) {
    mappings.withLock { mappings in
      guard let mapping = mappings[guest] else { return }
      guard mapping.users == 1 else {
        mappings[guest]?.users -= 1
        return
      }
      mappings[guest] = nil
      parent.removeGuestDomain(mapping.host)
      parent.driver.domainIDs.give(mapping.host.rawValue)
    }
  }
}

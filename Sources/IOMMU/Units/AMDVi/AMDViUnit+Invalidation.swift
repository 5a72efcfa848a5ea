// SPDX-License-Identifier: Apache-2.0

// The invalidation commands. Each invalidation waits for requests that may still use what it
// removed.

internal import Synchronization

extension AMDViUnit {
  /// Performs §2.4.2 INVALIDATE_DEVTAB_ENTRY: removes the cached device table entry of a device,
  /// and the guest CR3 entries that were read through it. Translations stay cached.
  func invalidate(entryOf requester: RequesterID) {
    state.withLock { state in
      state.generation &+= 1
      state.deviceTableEntries.invalidate { key, _ in key == UInt64(requester.rawValue) }
      state.addressSpaces.invalidate { _, space in space.requester == requester }
      state.devicesWithRecordedFault.remove(requester)
    }
    ports.drain { $0 == requester }
  }

  /// Performs §2.4.3 INVALIDATE_IOMMU_PAGES.
  ///
  /// With GN it removes translations of a PASID's guest virtual addresses. Without GN it removes
  /// translations of host table addresses, and all translations of the domain through guest tables,
  /// because an IOTLB entry does not record through which host table addresses its translation
  /// went. With PDE it also removes cached guest CR3 entries and guest table entries.
  func invalidatePages(_ command: AMDViCommand) {
    let (domain, range) = (command.domain, command.range)
    let pasid = command.isForGuest ? command.pasid : nil
    let guestTag = pasid.map { IOTLBTag(domain: domain, pasid: $0) }
    let hostTag = IOTLBTag(domain: domain)
    state.withLock { state in
      state.generation &+= 1
      state.iotlb.removeAll { entry in
        let tag = entry.tag.withoutExtension
        if let guestTag, tag != guestTag { return false }
        if guestTag == nil, tag != hostTag { return entry.tag.domain == domain }
        return AMDViLeafAttributes(entry.attributes).intersects(range, at: entry.iova.rawValue)
      }
      if command.includesDirectories {
        state.addressSpaces.invalidate { _, space in
          guard let own = space.pasid, space.domain == domain else { return false }
          return pasid == nil || own == pasid
        }
        state.pagingStructures.removeAll { entry in
          guard let guestTag else { return entry.tag.domain == domain }
          return entry.tag.withoutExtension == guestTag
            && range.intersects(entry.iova.rawValue, shift: entry.shift)
        }
      }
    }
    ports.drain(domain)
  }

  /// Performs §2.4.8 INVALIDATE_IOMMU_ALL.
  func invalidateAll() {
    state.withLock { state in
      state.generation &+= 1
      state.deviceTableEntries.invalidate { _, _ in true }
      state.addressSpaces.invalidate { _, _ in true }
      state.iotlb.removeAll { _ in true }
      state.pagingStructures.removeAll { _ in true }
      state.devicesWithRecordedFault = []
    }
    ports.drain(nil as InFlightKey?)
  }
}

internal import Synchronization

extension AMDViUnit {
  /// §2.4.2: the entry, and what was read of GCR3 tables by it. Translations stay.
  func invalidate(entryOf device: RequesterID) {
    state.withLock { state in
      state.generation &+= 1
      state.entries.invalidate { key, _ in key == UInt64(device.rawValue) }
      state.spaces.invalidate { _, space in space.device == device }
      state.silenced.remove(device)
    }
    ports.drain { $0 == device }
  }

  /// §2.4.3. With GN, translations of a PASID's own addresses. Without, those of the host's; and every
  /// translation of the domain through guest tables, because it does not say which of the host's
  /// addresses it went through. With PDE what is cached of GCR3 tables and of upper guest tables goes, too.
  func invalidatePages(_ command: AMDViCommand) {
    let (domain, range) = (command.domain, command.range)
    let pasid = command.isForGuest ? command.pasid : nil
    let guestTag = pasid.map { IOTLBTag(domain: domain, pasid: $0) }
    let hostTag = IOTLBTag(domain: domain)
    state.withLock { state in
      state.generation &+= 1
      state.iotlb.removeAll { entry in
        let tag = entry.tag.ofAllAddresses
        if let guestTag, tag != guestTag { return false }
        if guestTag == nil, tag != hostTag { return entry.tag.domain == domain }
        return AMDViCachedPage(entry.attributes).isTouched(by: range, at: entry.address)
      }
      if command.includesDirectories {
        state.spaces.invalidate { _, space in
          guard let own = space.pasid, space.domain == domain else { return false }
          return pasid == nil || own == pasid
        }
        state.pagingStructures.removeAll { entry in
          guard let guestTag else { return entry.tag.domain == domain }
          return entry.tag.ofAllAddresses == guestTag
            && range.intersects(entry.address, shift: entry.shift)
        }
      }
    }
    ports.drain(domain)
  }

  /// §2.4.8
  func invalidateAll() {
    state.withLock { state in
      state.generation &+= 1
      state.entries.invalidate { _, _ in true }
      state.spaces.invalidate { _, _ in true }
      state.iotlb.removeAll { _ in true }
      state.pagingStructures.removeAll { _ in true }
      state.silenced = []
    }
    ports.drain(space: nil)
  }
}

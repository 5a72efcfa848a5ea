// What the kernel's intel driver does for iommufd, on one VT-d unit in scalable mode: it keeps the
// root, context and PASID tables in physical memory, writes PASID table entries, and tells the unit's
// caches what changed.
//
// A requester at rest has a context entry and an empty PASID directory, so its requests fault. To
// attach is to write one PASID table entry, whole: a request goes through the old domain or through the
// new one. (The kernel clears the entry in between and may leave it so when it fails; here what can
// fail comes first.) Every change is followed by the invalidations of VT-d §6.5.3.3 table 28, the last of
// which waits for requests that still use what was there.

package import IOMMU
internal import Synchronization
package import SystemPackage

package final class VTdDriver: IOMMUDriver {
  package let unit: VTdUnit
  private let memory: PhysicalMemory
  private let rootTable: PhysicalAddress
  private let state = Mutex(State())

  /// Nobody holds it while waiting for anything but the unit.
  private struct State {
    /// Context tables by bus and half of its functions (requester id >> 7).
    var contextTables: [UInt16: PhysicalAddress] = [:]
    var devices: [RequesterID: VTdDevice] = [:]
  }

  /// Where domain ids of this unit come from.
  let domainIDs: VTdDomainIDs

  /// Takes `unit` into use: DMA of every requester is blocked from now on.
  package init(unit: VTdUnit, memory: PhysicalMemory) throws(Errno) {
    self.unit = unit
    self.memory = memory
    domainIDs = VTdDomainIDs(count: 1 << min(unit.capabilities.domainBits, 16))
    rootTable = try memory.allocateTable()
    unit.setRootTable(rootTable)
    unit.invalidateContextCache(.global)
    unit.invalidatePASIDCache(.global)
    unit.invalidateIOTLB(.global)
  }

  /// Makes a device known, with the number of PASID bits it can use (0: no PASID capability). A
  /// device that is attached without has none. intel: intel_iommu_probe_device()
  package func probe(_ device: RequesterID, pasidBits: Int) throws(Errno) {
    _ = try self.device(device, pasidBits: pasidBits)
  }

  /// Sets who is told of faults. The fault event handler empties the recording registers, as
  /// dmar_fault() does, so that they never overflow.
  package func setFaultSink(_ sink: FaultSink?) {
    unit.setFaultSink { [weak unit] record in
      _ = unit?.takeFaultRecords()
      sink?(record)
    }
  }

  // MARK: IOMMUDriver

  /// intel: intel_iommu_get_resv_regions()
  package func reservedRegions(of device: RequesterID) -> [ReservedRegion] {
    [ReservedRegion(range: 0xfee0_0000...0xfeef_ffff, kind: .msi)]
  }

  /// intel: intel_iommu_capable()
  package func enforcesCacheCoherency(for device: RequesterID) -> Bool {
    unit.capabilities.snoopControl
  }

  /// intel: intel_iommu_domain_alloc_second_stage(). Nesting needs a first stage (NEST), which this
  /// unit does not have.
  package func makePagingDomain(
    _ flags: PagingDomainFlags, for device: RequesterID, data: UserData?
  ) throws(Errno) -> any PagingDomain {
    guard data == nil, flags.isSubset(of: [.dirtyTracking, .pasid]) else { throw .notSupported }
    if flags.contains(.dirtyTracking) && !unit.capabilities.secondStageFlags {
      throw .notSupported
    }
    return try VTdPagingDomain(
      tracksDirty: flags.contains(.dirtyTracking), for: unit.capabilities, memory: memory)
  }

  /// intel: intel_iommu_attach_device(), intel_iommu_set_dev_pasid()
  package func attach(
    _ new: DomainAttachment, to requester: RequesterID, pasid: PASID?,
    replacing _: DomainAttachment?
  ) throws(Errno) {
    guard let domain = new.domain as? VTdPagingDomain else { throw .invalidArgument }
    if pasid != nil && unit.capabilities.pasidBits == 0 { throw .notSupported }
    try domain.requireCompatibility(with: unit.capabilities)
    let device = try device(requester, pasidBits: 0)
    let number = pasid ?? VTdDevice.ridPASID
    guard let place = try device.place(of: number, memory: memory) else {
      throw .invalidArgument
    }
    let id = try domain.take(for: self)
    let old = device.exchange(number, .init(domain: domain, id: id))
    memory.storeLine(domain.makeEntry(id: id).words, at: place)
    // A unit that caches absent entries tags them with domain 0 (CM).
    if let old {
      flush(old.id, number)
      old.domain.give(back: self)
    } else if unit.capabilities.cachingMode {
      flush(DomainID(rawValue: 0), number)
    }
  }

  /// intel: device_block_translation(), blocking_domain_set_dev_pasid()
  package func block(_ requester: RequesterID, pasid: PASID?) {
    let number = pasid ?? VTdDevice.ridPASID
    guard let device = state.withLock({ $0.devices[requester] }),
      let old = device.exchange(number, nil), let place = device.existingPlace(of: number)
    else { return }
    memory.storeLine(PASIDTableEntry().words, at: place)
    flush(old.id, number)
    old.domain.give(back: self)
  }

  /// After a PASID table entry that was present changed: intel_pasid_flush_present().
  private func flush(_ domain: DomainID, _ pasid: PASID) {
    unit.invalidatePASIDCache(.pasid(domain, pasid))
    unit.invalidateIOTLB(.domain(domain))
  }

  // MARK: Tables

  private func device(
    _ requester: RequesterID, pasidBits: Int
  ) throws(Errno) -> VTdDevice {
    try state.withLock { state throws(Errno) in
      if let device = state.devices[requester] { return device }
      let table = try contextTable(of: requester, in: &state)
      let bits = min(pasidBits, unit.capabilities.pasidBits, 20)
      let device = try VTdDevice(pasidBits: bits, memory: memory)
      let place = table.rawValue + ScalableContextEntry.offset(of: requester)
      memory.storeLine(device.contextEntry.words, at: PhysicalAddress(place))
      if unit.capabilities.cachingMode { unit.invalidateContextCache(.device(requester)) }
      state.devices[requester] = device
      return device
    }
  }

  private func contextTable(
    of requester: RequesterID, in state: inout State
  ) throws(Errno) -> PhysicalAddress {
    if let table = state.contextTables[requester.rawValue >> 7] { return table }
    let table = try memory.allocateTable()
    let place = rootTable.rawValue + ScalableRootEntry.word(of: requester)
    memory.storeEntry(
      ScalableRootEntry.makeWord(contextTable: table), at: PhysicalAddress(place))
    state.contextTables[requester.rawValue >> 7] = table
    return table
  }
}

/// The domain ids of one unit: lowest free first. intel: domain_attach_iommu()
final class VTdDomainIDs: Sendable {
  /// 0 is for absent entries under caching mode, 1 for first-stage and pass-through translation.
  private static let first = 2
  private let used: Mutex<[Bool]>

  init(count: Int) { used = Mutex(Array(repeating: false, count: count)) }

  func take() throws(Errno) -> DomainID {
    let id = used.withLock { used -> Int? in
      guard let id = used.indices.dropFirst(Self.first).first(where: { !used[$0] }) else {
        return nil
      }
      used[id] = true
      return id
    }
    guard let id else { throw .noSpace }
    return DomainID(rawValue: UInt16(id))
  }

  func give(_ id: DomainID) { used.withLock { $0[Int(id.rawValue)] = false } }
}

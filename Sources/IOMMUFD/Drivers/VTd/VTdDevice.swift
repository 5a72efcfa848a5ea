// One requester behind a VT-d unit: its PASID directory and tables, and what is attached to it
// (struct device_domain_info, struct pasid_table).

internal import IOMMU
internal import Synchronization
internal import SystemPackage

final class VTdDevice: Sendable {
  /// RID_PASID: the PASID of requests without one. intel: IOMMU_NO_PASID
  static let ridPASID = PASID(rawValue: 0)

  struct Attachment {
    let domain: any VTdDomain
    let id: DomainID
  }

  private struct State {
    /// PASID tables by directory index. They stay once made.
    var tables: [UInt32: PhysicalAddress] = [:]
    var attachments: [PASID: Attachment] = [:]
  }

  let requester: RequesterID
  /// What the device and its unit both have.
  let services: VTdDeviceServices
  private let directory: PhysicalAddress
  /// log2 of the directory's size in bytes.
  private let directoryShift: Int
  private let state = Mutex(State())

  var hasATS: Bool { services.hasATS }

  /// intel: intel_pasid_alloc_table()
  init(
    _ requester: RequesterID, _ services: VTdDeviceServices, memory: PhysicalMemory
  ) throws(Errno) {
    self.requester = requester
    self.services = services
    // A directory entry of 8 bytes is for 64 PASIDs.
    directoryShift = max(12, services.pasidBits - 6 + 3)
    directory = try memory.allocateTable(sizeShift: directoryShift)
    // Where there is a driver's default domain before anybody takes the device, RID_PASID has a table.
    do throws(Errno) {
      _ = try place(of: Self.ridPASID, memory: memory)
    } catch {
      memory.freeTable(directory, sizeShift: directoryShift)
      throw error
    }
  }

  /// intel: context_entry_set_pasid_table()
  var contextEntry: ScalableContextEntry {
    var entry = ScalableContextEntry()
    entry.directory = directory
    entry.directoryShift = directoryShift - 3
    entry.ridPASID = Self.ridPASID
    entry.allowsDeviceTLB = services.hasATS
    entry.allowsPASID = services.pasidBits > 0
    entry.allowsPageRequests = services.hasPageRequests
    entry.isPresent = true
    return entry
  }

  /// Where the table entry of `pasid` is; its table is made when it is the first there.
  /// - Returns: nil for a PASID beyond the directory, and for PASIDs of a device without them.
  func place(of pasid: PASID, memory: PhysicalMemory) throws(Errno) -> PhysicalAddress? {
    guard pasid == Self.ridPASID || services.pasidBits > 0,
      UInt64(pasid.rawValue) >> UInt64(directoryShift + 3) == 0
    else { return nil }
    let table = try state.withLock { state throws(Errno) in
      if let table = state.tables[pasid.rawValue >> 6] { return table }
      let table = try memory.allocateTable()
      let entry = directory.rawValue + PASIDDirectoryEntry.offset(of: pasid)
      memory.storeEntry(PASIDDirectoryEntry.make(table: table), at: PhysicalAddress(entry))
      state.tables[pasid.rawValue >> 6] = table
      return table
    }
    return PhysicalAddress(table.rawValue + PASIDTableEntry.offset(of: pasid))
  }

  func existingPlace(of pasid: PASID) -> PhysicalAddress? {
    state.withLock { $0.tables[pasid.rawValue >> 6] }.map {
      PhysicalAddress($0.rawValue + PASIDTableEntry.offset(of: pasid))
    }
  }

  /// Notes what `pasid` is attached to from now on.
  /// - Returns: what it was attached to.
  func exchange(_ pasid: PASID, _ new: Attachment?) -> Attachment? {
    state.withLock { state in
      let old = state.attachments[pasid]
      state.attachments[pasid] = new
      return old
    }
  }
}

/// What a device can do beyond plain requests. Probed with what the device has, it is what device and
/// unit both have: that much is enabled.
package struct VTdDeviceServices: Hashable, Sendable {
  /// log2 of the number of PASIDs; 0: none.
  package var pasidBits = 0
  /// Requests with PASID may ask to execute, or with privilege.
  package var canExecute = false
  package var canBePrivileged = false
  package var hasATS = false
  package var hasPageRequests = false

  package init() {}

  /// intel: intel_iommu_probe_device()
  func common(with capabilities: VTdCapabilities) -> VTdDeviceServices {
    var common = self
    common.pasidBits = min(pasidBits, capabilities.pasidBits, 20)
    common.canExecute = canExecute && common.pasidBits > 0
    common.canBePrivileged = canBePrivileged && common.pasidBits > 0
    common.hasATS = hasATS && capabilities.deviceTLBs
    common.hasPageRequests = hasPageRequests && common.hasATS && capabilities.pageRequests
    return common
  }
}

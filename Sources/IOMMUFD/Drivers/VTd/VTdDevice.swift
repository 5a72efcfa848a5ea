// SPDX-License-Identifier: Apache-2.0

// One requester behind a VT-d unit (struct device_domain_info, struct pasid_table): its PASID
// directory, its PASID tables, and its attachments. `VTdDriver` owns the device and never frees it,
// so the tables stay too.

internal import IOMMU
internal import Synchronization
internal import SystemPackage

final class VTdDevice: Sendable {
  /// RID_PASID, the PASID of requests without a PASID (intel: IOMMU_NO_PASID).
  static let ridPASID = PASID(rawValue: 0)

  /// The domain of a PASID, and the domain's ID in the unit.
  struct Attachment {
    let domain: any VTdDomain
    let id: DomainID
  }

  private struct State {
    /// The PASID tables by index in the directory.
    var tables: [UInt32: PhysicalAddress] = [:]
    var attachments: [PASID: Attachment] = [:]
  }

  let requester: RequesterID
  /// The properties of the device that the unit supports.
  let properties: DeviceProperties
  private let directory: PhysicalAddress
  /// log2 of the directory's size in bytes.
  private let directoryShift: Int
  private let state = Mutex(State())

  var hasATS: Bool { properties.hasATS }

  /// intel: intel_pasid_alloc_table()
  init(
    _ requester: RequesterID, _ properties: DeviceProperties, memory: PhysicalMemory
  ) throws(Errno) {
    self.requester = requester
    self.properties = properties
    // A directory entry has 8 bytes and covers 64 PASIDs.
    directoryShift = max(12, properties.pasidBits - 6 + 3)
    directory = try memory.allocateTable(sizeShift: directoryShift)
    // In the kernel the default domain, which the device has before a client opens it, has
    // allocated the table of RID_PASID.
    do throws(Errno) {
      _ = try allocateEntry(of: Self.ridPASID, memory: memory)
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
    entry.allowsDeviceTLB = properties.hasATS
    entry.allowsPASID = properties.pasidBits > 0
    entry.allowsPageRequests = properties.hasPageRequests
    entry.isPresent = true
    return entry
  }

  /// Returns the address of the PASID table entry of `pasid` and allocates the PASID table when
  /// there is none.
  /// - Returns: `nil` for a PASID behind the directory, and for a PASID of a device without PASIDs.
  func allocateEntry(of pasid: PASID, memory: PhysicalMemory) throws(Errno) -> PhysicalAddress? {
    guard pasid == Self.ridPASID || properties.pasidBits > 0,
      UInt64(pasid.rawValue) >> UInt64(directoryShift + 3) == 0
    else { return nil }
    let table = try state.withLock { state throws(Errno) in
      if let table = state.tables[pasid.rawValue >> 6] { return table }
      let table = try memory.allocateTable()
      memory.storeEntry(
        PASIDDirectoryEntry.make(table: table),
        at: directory.advanced(by: PASIDDirectoryEntry.offset(of: pasid)))
      state.tables[pasid.rawValue >> 6] = table
      return table
    }
    return table.advanced(by: PASIDTableEntry.offset(of: pasid))
  }

  /// Returns the address of the PASID table entry of `pasid`, or `nil` when there is no PASID table
  /// for it.
  func entryAddress(of pasid: PASID) -> PhysicalAddress? {
    state.withLock { $0.tables[pasid.rawValue >> 6] }?
      .advanced(by: PASIDTableEntry.offset(of: pasid))
  }

  /// Records the new attachment of `pasid`.
  /// - Returns: The previous attachment.
  func exchange(_ pasid: PASID, _ new: Attachment?) -> Attachment? {
    state.withLock { state in
      let old = state.attachments[pasid]
      state.attachments[pasid] = new
      return old
    }
  }
}

extension DeviceProperties {
  /// Returns the properties that the unit supports too: intel_iommu_probe_device().
  func limited(to capabilities: VTdCapabilities) -> DeviceProperties {
    var limited = self
    limited.pasidBits = min(pasidBits, capabilities.pasidBits, 20)
    limited.canExecute = canExecute && limited.pasidBits > 0
    limited.canBePrivileged = canBePrivileged && limited.pasidBits > 0
    limited.hasATS = hasATS && capabilities.deviceTLBs
    limited.hasPageRequests = hasPageRequests && limited.hasATS && capabilities.pageRequests
    return limited
  }
}

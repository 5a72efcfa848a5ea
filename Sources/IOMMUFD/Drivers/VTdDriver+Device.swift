// One requester behind a VT-d unit: its PASID directory and tables, and what is attached to it.

internal import IOMMU
internal import Synchronization
internal import SystemPackage

final class VTdDevice: Sendable {
  /// RID_PASID: the PASID of requests without one. intel: IOMMU_NO_PASID
  static let ridPASID = PASID(rawValue: 0)

  struct Attachment {
    let domain: VTdPagingDomain
    let id: DomainID
  }

  private struct State {
    /// PASID tables by directory index. They stay once made.
    var tables: [UInt32: PhysicalAddress] = [:]
    var attachments: [PASID: Attachment] = [:]
  }

  private let directory: PhysicalAddress
  /// log2 of the directory's size in bytes.
  private let directoryShift: Int
  private let hasPASIDs: Bool
  private let state = Mutex(State())

  /// intel: intel_pasid_alloc_table()
  init(pasidBits: Int, memory: PhysicalMemory) throws(Errno) {
    // A directory entry of 8 bytes is for 64 PASIDs.
    directoryShift = max(12, pasidBits - 6 + 3)
    hasPASIDs = pasidBits > 0
    directory = try memory.allocateTable(sizeShift: directoryShift)
  }

  /// intel: context_entry_set_pasid_table()
  var contextEntry: ScalableContextEntry {
    var entry = ScalableContextEntry()
    entry.directory = directory
    entry.directoryShift = directoryShift - 3
    entry.ridPASID = Self.ridPASID
    entry.allowsPASID = hasPASIDs
    entry.isPresent = true
    return entry
  }

  /// Where the table entry of `pasid` is; its table is made when it is the first there.
  /// - Returns: nil for a PASID beyond the directory, and for PASIDs of a device without them.
  func place(of pasid: PASID, memory: PhysicalMemory) throws(Errno) -> PhysicalAddress? {
    guard pasid == Self.ridPASID || hasPASIDs,
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

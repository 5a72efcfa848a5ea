// SPDX-License-Identifier: Apache-2.0

// The GCR3 table of a device that is attached to a guest table (struct gcr3_tbl_info). It contains
// the domain's page table for PASID 0. The attachment owns it and frees it after the unit's caches
// have been invalidated.

internal import IOMMU
internal import SystemPackage

final class AMDViGuestCR3Table: Sendable {
  let root: PhysicalAddress
  /// Levels of the table, without the first one.
  let levels: Int
  let domain: DomainID
  /// One table for each level.
  private let tables: [PhysicalAddress]
  private let memory: PhysicalMemory
  private let ids: IDAllocator

  /// amd: setup_gcr3_table(), amd_iommu_set_gcr3()
  /// - Parameter guestTable: The page table for PASID 0.
  init(pasidBits: Int, root guestTable: PhysicalAddress, driver: AMDViDriver) throws(Errno) {
    // get_gcr3_levels(): each level has 512 entries, for nine bits of the PASID.
    levels = pasidBits == 0 ? 0 : (pasidBits + 8) / 9 - 1
    guard levels <= driver.capabilities.guestCR3Levels else { throw .invalidArgument }
    memory = driver.memory
    ids = driver.platform.domainIDs
    domain = try ids.allocateDomainID()
    var tables: [PhysicalAddress] = []
    do throws(Errno) {
      for _ in 0...levels { tables.append(try memory.allocateTable()) }
    } catch {
      for table in tables { memory.freeTable(table) }
      ids.release(domain)
      throw error
    }
    // PASID 0 uses the first entry of every table.
    for (table, next) in zip(tables, tables.dropFirst() + [guestTable]) {
      memory.storeEntry(GuestCR3Entry.make(next), at: table)
    }
    self.tables = tables
    root = tables[0]
  }

  /// Invalidates the translations of the table in the unit.
  func flush(_ driver: AMDViDriver) {
    driver.submit([
      .invalidatePages(.everything, of: domain, pasid: PASID(rawValue: 0), directories: true)
    ])
  }

  deinit {
    for table in tables { memory.freeTable(table) }
    ids.release(domain)
  }
}

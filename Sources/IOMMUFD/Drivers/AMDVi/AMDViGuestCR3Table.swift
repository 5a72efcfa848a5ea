// The GCR3 table of a device that is attached to a guest table (struct gcr3_tbl_info): the domain's table for
// PASID 0. It goes with the last reference, when the unit does not know it any more.

internal import IOMMU
internal import SystemPackage

final class AMDViGuestCR3Table: Sendable {
  let root: PhysicalAddress
  /// Behind the first.
  let levels: Int
  let domain: DomainID
  private let tables: [PhysicalAddress]
  private let memory: PhysicalMemory
  private let ids: LowestFreeIDs

  /// amd: setup_gcr3_table(), amd_iommu_set_gcr3()
  init(pasidBits: Int, root guestTable: PhysicalAddress, driver: AMDViDriver) throws(Errno) {
    // get_gcr3_levels(): a table of 512 entries for every nine bits.
    levels = pasidBits == 0 ? 0 : (pasidBits + 8) / 9 - 1
    guard levels <= driver.unit.capabilities.guestCR3Levels else { throw .invalidArgument }
    memory = driver.memory
    ids = driver.domainIDs
    domain = DomainID(rawValue: try ids.take())
    var tables: [PhysicalAddress] = []
    do throws(Errno) {
      for _ in 0...levels { tables.append(try memory.allocateTable()) }
    } catch {
      for table in tables { memory.freeTable(table) }
      ids.give(domain.rawValue)
      throw error
    }
    // PASID 0 is the first entry of every table.
    for (table, next) in zip(tables, tables.dropFirst() + [guestTable]) {
      memory.storeEntry(GuestCR3Entry.make(next), at: table)
    }
    self.tables = tables
    root = tables[0]
  }

  func flush(_ driver: AMDViDriver) {
    driver.submit([
      .invalidatePages(.everything, of: domain, pasid: PASID(rawValue: 0), directories: true)
    ])
  }

  deinit {
    for table in tables { memory.freeTable(table) }
    ids.give(domain.rawValue)
  }
}

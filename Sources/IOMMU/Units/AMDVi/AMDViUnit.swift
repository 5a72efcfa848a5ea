// SPDX-License-Identifier: Apache-2.0

// One AMD-Vi unit, as hardware: the device table that its driver sets, host tables in physical
// memory, GCR3 tables and guest tables, which are in physical memory or, if there is a host table
// too, in guest physical memory, and caches of all of them. Software changes the caches with
// commands.
//
// The DeviceID of a request, which is its requester ID, selects a device table entry (DTE). With
// guest tables, the PASID of the request selects a guest CR3 entry. The unit caches DTEs, and the
// address spaces that a DTE and a guest CR3 entry describe together. Translations are cached by
// domain ID. Translations through guest tables are cached by domain ID and PASID, from guest
// virtual to system physical addresses in one entry. Host translations of guest table addresses are
// not cached.
//
// One lock guards all caches. It is never held while a table is walked. A walk that overlaps with
// an invalidation serves its own request only and is not cached.

internal import Synchronization

package final class AMDViUnit: Sendable {
  /// The capabilities of a unit and the sizes of its caches.
  package struct Configuration: Hashable, Sendable {
    package var capabilities = AMDViCapabilities()
    package var iotlb = IOTLBGeometry()
    /// The number of sets of the DTE cache, each of 4 entries.
    package var deviceCacheSets = 16
    /// The number of sets of the cache of address spaces, each of 4 entries.
    package var spaceCacheSets = 16
    /// The number of entries of the cache of guest table entries. With 0 the unit has none.
    package var pagingStructureEntries = 32

    package init() {}
  }

  /// Device Table Base Address Register (MMIO offset 0h).
  package struct DeviceTable: Hashable, Sendable {
    package let base: PhysicalAddress
    /// The number of entries.
    package let count: Int

    package init(base: PhysicalAddress, count: Int) {
      self.base = base
      self.count = count
    }
  }

  package let capabilities: AMDViCapabilities
  let memory: PhysicalMemory
  let window: FrameWindow
  /// The reserved bits of host table entries.
  let hostRules: EntryRules
  /// The reserved bits of guest table entries at system physical addresses.
  let guestRules: EntryRules
  /// The reserved bits of guest table entries at guest physical addresses.
  let nestedRules: EntryRules
  let state: Mutex<State>
  let events: FaultRecordBuffer<AMDViEventEntry>
  let pageRequests = PageRequestReceiver()
  let ports = PortList()

  /// The state under the unit's lock. A thread that holds the lock acquires no other lock. SAFETY:
  /// the state owns the memory that its caches point to, and is only reached with the lock held.
  struct State: ~Copyable, @unchecked Sendable {
    /// `nil` until IommuEn is set. Firmware keeps bus mastering disabled until then, so no request
    /// is let in.
    var deviceTable: DeviceTable?
    var deviceTableEntries: ConfigurationCache<DeviceTableEntry>
    var addressSpaces: ConfigurationCache<AMDViAddressSpace>
    var iotlb: IOTLB
    /// Guest table entries, tagged by domain ID and PASID.
    var pagingStructures: PagingStructureCache
    /// Devices whose first IO_PAGE_FAULT is recorded while SE is set.
    var devicesWithRecordedFault: Set<RequesterID> = []
    /// The number of invalidations so far.
    var generation: UInt64 = 0
  }

  package init(_ configuration: Configuration, memory: PhysicalMemory) {
    capabilities = configuration.capabilities
    self.memory = memory
    window = memory.window
    hostRules = AMDv1.rules(addressBits: memory.addressBits)
    guestRules = AMDGuest.rules(addressBits: memory.addressBits, has1GPages: true)
    nestedRules = AMDGuest.rules(addressBits: 52, has1GPages: true)
    state = Mutex(
      State(
        deviceTableEntries: ConfigurationCache(sets: configuration.deviceCacheSets),
        addressSpaces: ConfigurationCache(sets: configuration.spaceCacheSets),
        iotlb: IOTLB(configuration.iotlb),
        pagingStructures: PagingStructureCache(capacity: configuration.pagingStructureEntries)))
    // One entry of the ring always stays free.
    events = FaultRecordBuffer(capacity: 1 << min(max(capabilities.eventLogBits, 8), 15) - 1)
  }

  /// Sets the device table and IommuEn.
  package func enable(_ table: DeviceTable) {
    state.withLock { state in
      state.deviceTable = table
      state.generation &+= 1
    }
  }

  /// The number of translations in the IOTLB.
  package var cachedTranslations: Int { state.withLock { $0.iotlb.count } }

  /// The number of entries in the paging-structure cache.
  package var cachedPagingStructures: Int { state.withLock { $0.pagingStructures.count } }
}

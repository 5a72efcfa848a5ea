// One AMD-Vi unit, as hardware: a device table that its driver sets, host tables in physical memory,
// GCR3 tables and guest tables that are in physical memory or, when there is a host table too, in a
// guest's; and caches of all of them. Software changes the caches with commands.
//
// A request's device id selects a device table entry, and with guest tables its PASID a GCR3 entry;
// together they are an *address space*, which is what the unit caches beside the entries. Translations
// are cached by domain id; those that went through guest tables by domain id and PASID, from the
// guest's virtual address to the host's physical one in one entry. Walks of host tables within
// guest tables are not cached.
//
// As in the other units, all caches are under one short lock that is not held while tables are read;
// what is found while an invalidation comes in between is used once and not cached.

internal import Synchronization

package final class AMDViUnit: Sendable {
  /// What the unit can do, and the sizes of its caches.
  package struct Configuration: Hashable, Sendable {
    package var capabilities = AMDViCapabilities()
    package var iotlb = IOTLBGeometry()
    /// Sets of 4 entries.
    package var deviceCacheSets = 16
    package var spaceCacheSets = 16
    /// Entries of the cache of guest table entries; 0: the unit has none.
    package var pagingStructureEntries = 32

    package init() {}
  }

  /// Device Table Base Address Register (MMIO offset 0h).
  package struct DeviceTable: Hashable, Sendable {
    package let base: PhysicalAddress
    /// Entries.
    package let count: Int

    package init(base: PhysicalAddress, count: Int) {
      self.base = base
      self.count = count
    }
  }

  package let capabilities: AMDViCapabilities
  let memory: PhysicalMemory
  let window: FrameWindow
  /// Of host tables; of guest tables that are at physical addresses; of those that are not.
  let hostRules: EntryRules
  let guestRules: EntryRules
  let nestedRules: EntryRules
  let state: Mutex<State>
  let events: FaultRecordBuffer<AMDViEventEntry>
  let pageRequestSink = Mutex<PageRequestSink?>(nil)
  let ports = UnitPorts()

  /// What is under the unit's lock. Nothing that holds it takes another lock.
  /// SAFETY: owns the memory that its caches point to, and is only reached with the lock held.
  struct State: ~Copyable, @unchecked Sendable {
    /// Nil until IommuEn is set: firmware has bus mastering off until then, so no request is let in.
    var deviceTable: DeviceTable?
    var entries: ConfigurationCache<DeviceTableEntry>
    var spaces: ConfigurationCache<AMDViAddressSpace>
    var iotlb: IOTLB
    /// Of guest tables, whose addresses are a PASID's.
    var pagingStructures: PagingStructureCache
    /// Devices that have had their one IO_PAGE_FAULT (SE).
    var silenced: Set<RequesterID> = []
    /// How many invalidations there were.
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
        entries: ConfigurationCache(sets: configuration.deviceCacheSets),
        spaces: ConfigurationCache(sets: configuration.spaceCacheSets),
        iotlb: IOTLB(configuration.iotlb),
        pagingStructures: PagingStructureCache(capacity: configuration.pagingStructureEntries)))
    // A ring of which one entry stays free.
    events = FaultRecordBuffer(capacity: 1 << min(max(capabilities.eventLogBits, 8), 15) - 1)
  }

  /// Sets the device table and IommuEn.
  package func enable(_ table: DeviceTable) {
    state.withLock { state in
      state.deviceTable = table
      state.generation &+= 1
    }
  }

  /// Translations in the IOTLB now.
  package var cachedTranslations: Int { state.withLock { $0.iotlb.count } }

  /// Entries in the paging-structure cache now.
  package var cachedPagingStructures: Int { state.withLock { $0.pagingStructures.count } }
}

// One VT-d remapping unit, as hardware: registers that its driver sets, configuration and page tables
// that it reads from physical memory, and caches of both. It knows nothing of domains as objects: what
// it does follows from the bits in its tables, and from what its caches still hold.
//
// The unit works in scalable mode: a request's source id selects a root and a context entry, its PASID
// (or the context's RID_PASID) a PASID table entry, and that the page table (VT-d §3.4).
//
// All caches are under one short lock, which is never held while a table is walked or client
// memory is touched. A walk may therefore overlap with an invalidation; each invalidation starts a
// new generation, and what an older generation's walk found is used for its own request, which
// the invalidation waits for, but not cached.

internal import Synchronization

package final class VTdUnit: Sendable {
  /// Sizes of the unit's caches.
  package struct Configuration: Hashable, Sendable {
    package var capabilities = VTdCapabilities()
    package var iotlb = IOTLBGeometry()
    /// Sets of 4 entries.
    package var contextCacheSets = 16
    package var pasidCacheSets = 16
    /// Entries of the paging-structure cache; 0: the unit has none.
    package var pagingStructureEntries = 32
    /// ERRATA_772415_SPR17: a second stage with read-only pages cannot be nested on. Linux 7.3 says so of
    /// every unit.
    package var hasReadOnlyErratum = true

    package init() {}

    /// A unit for guests with tables of their own.
    package static var nesting: Configuration {
      var configuration = Configuration()
      configuration.capabilities = .nesting
      return configuration
    }
  }

  package let capabilities: VTdCapabilities
  package let hasReadOnlyErratum: Bool
  let memory: PhysicalMemory
  let window: FrameWindow
  /// What the unit demands of second-stage entries, of first-stage entries, and of those in guests'
  /// tables, whose addresses the second stage checks.
  let rules: EntryRules
  let firstStageRules: EntryRules
  let guestRules: EntryRules
  let state: Mutex<State>
  let faults: FaultRecordBuffer<VTdFaultRecordingRegister>
  let pageRequestSink = Mutex<PageRequestSink?>(nil)
  let plannedFailures = Mutex<[PlannedInvalidationFailure]>([])
  let ports = UnitPorts()

  /// What is under the unit's lock. Nothing that holds it takes another lock.
  /// SAFETY: owns the memory that its caches point to, and is only reached with the lock held.
  struct State: ~Copyable, @unchecked Sendable {
    /// RTADDR_REG, and its TTM field selecting scalable mode; nil before it is set.
    var rootTable: PhysicalAddress?
    var contexts: ConfigurationCache<ScalableContextEntry>
    var spaces: ConfigurationCache<VTdAddressSpace>
    var iotlb: IOTLB
    var pagingStructures: PagingStructureCache
    /// How many invalidations there were.
    var generation: UInt64 = 0
  }

  package init(_ configuration: Configuration, memory: PhysicalMemory) {
    capabilities = configuration.capabilities
    hasReadOnlyErratum = configuration.hasReadOnlyErratum
    self.memory = memory
    window = memory.window
    rules = VTdSecondStage.rules(
      addressBits: memory.addressBits,
      pageSizes: (capabilities.has2MPages ? 1 : 0) | (capabilities.has1GPages ? 2 : 0),
      controlsSnooping: capabilities.snoopControl)
    firstStageRules = VTdFirstStage.rules(
      addressBits: memory.addressBits, has1GPages: capabilities.firstStage1GPages)
    guestRules = VTdFirstStage.rules(
      addressBits: 52, has1GPages: capabilities.firstStage1GPages)
    state = Mutex(
      State(
        contexts: ConfigurationCache(sets: configuration.contextCacheSets),
        spaces: ConfigurationCache(sets: configuration.pasidCacheSets),
        iotlb: IOTLB(configuration.iotlb),
        pagingStructures: PagingStructureCache(capacity: configuration.pagingStructureEntries)))
    faults = FaultRecordBuffer(capacity: max(1, capabilities.faultRegisters))
  }

  /// Sets RTADDR_REG to a scalable-mode root table, and takes it into use.
  package func setRootTable(_ address: PhysicalAddress) {
    state.withLock { state in
      state.rootTable = address
      state.generation &+= 1
    }
  }
}

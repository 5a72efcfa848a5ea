// SPDX-License-Identifier: Apache-2.0

// One VT-d remapping unit, as hardware: the registers that its driver sets, the configuration and
// page tables that it reads from physical memory, and caches of both. The unit has no domain
// objects; its behaviour follows from the bits in the tables and from what its caches still hold.
//
// The unit works in scalable mode (VT-d §3.4): the source-id of a request selects a root entry and
// a context entry, the PASID of the request (or RID_PASID of the context entry) selects a PASID
// table entry, and the PASID table entry selects the page tables.
//
// One lock guards all caches. It is never held while a table is walked or client memory is
// accessed, so a walk can overlap with an invalidation. Every invalidation starts a new generation.
// A walk that began in an older generation serves its own request, for which the invalidation
// waits, but is not cached.

internal import Synchronization

package final class VTdUnit: Sendable {
  /// The capabilities of a unit and the sizes of its caches.
  package struct Configuration: Hashable, Sendable {
    package var capabilities = VTdCapabilities()
    package var iotlb = IOTLBGeometry()
    /// The number of sets of the context cache, each of 4 entries.
    package var contextCacheSets = 16
    /// The number of sets of the PASID cache, each of 4 entries.
    package var pasidCacheSets = 16
    /// The number of entries of the paging-structure cache. With 0 the unit has none.
    package var pagingStructureEntries = 32
    /// ERRATA_772415_SPR17: a second stage with read-only pages cannot be a nesting parent. Linux
    /// 7.3 reports the erratum for every unit.
    package var hasReadOnlyErratum = true

    package init() {}

    /// A unit that can nest first-stage tables of guests.
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
  /// The reserved bits of second-stage entries.
  let rules: EntryRules
  /// The reserved bits of first-stage entries at physical addresses.
  let firstStageRules: EntryRules
  /// The reserved bits of nested first-stage entries, whose addresses the second stage checks.
  let guestRules: EntryRules
  let state: Mutex<State>
  let faults: FaultRecordBuffer<VTdFaultRecordingRegister>
  let pageRequests = PageRequestReceiver()
  let plannedFailures = Mutex<[PlannedInvalidationFailure]>([])
  let ports = PortList()

  /// The state under the unit's lock. A thread that holds the lock acquires no other lock. SAFETY:
  /// the state owns the memory that its caches point to, and is only reached with the lock held.
  struct State: ~Copyable, @unchecked Sendable {
    /// RTADDR_REG with TTM selecting scalable mode; `nil` before software sets the register.
    var rootTable: PhysicalAddress?
    /// The context cache.
    var contextEntries: ConfigurationCache<ScalableContextEntry>
    /// The PASID cache.
    var addressSpaces: ConfigurationCache<VTdAddressSpace>
    var iotlb: IOTLB
    var pagingStructures: PagingStructureCache
    /// The number of invalidations so far.
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
        contextEntries: ConfigurationCache(sets: configuration.contextCacheSets),
        addressSpaces: ConfigurationCache(sets: configuration.pasidCacheSets),
        iotlb: IOTLB(configuration.iotlb),
        pagingStructures: PagingStructureCache(capacity: configuration.pagingStructureEntries)))
    faults = FaultRecordBuffer(capacity: max(1, capabilities.faultRegisters))
  }

  /// Sets RTADDR_REG to a scalable-mode root table and makes the unit use it (GCMD_REG.SRTP).
  package func setRootTable(_ address: PhysicalAddress) {
    state.withLock { state in
      state.rootTable = address
      state.generation &+= 1
    }
  }

  /// The number of address spaces (pairs of requester and PASID) in the PASID cache.
  package var cachedAddressSpaces: Int { state.withLock { $0.addressSpaces.count } }

  /// The number of translations in the IOTLB.
  package var cachedTranslations: Int { state.withLock { $0.iotlb.count } }

  /// The number of entries in the paging-structure cache.
  package var cachedPagingStructures: Int { state.withLock { $0.pagingStructures.count } }
}

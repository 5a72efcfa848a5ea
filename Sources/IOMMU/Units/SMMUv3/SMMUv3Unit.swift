// SPDX-License-Identifier: Apache-2.0

// One SMMUv3, as hardware: the stream table that its driver sets, context descriptors and
// translation tables that it reads from physical memory, or from guest memory through stage 2, and
// caches of all of them. The result of a transaction follows from the bits in these structures and
// from what is still cached. Software changes the caches with commands.
//
// The StreamID of a transaction, which is its requester ID, selects a stream table entry (STE), and
// its SubstreamID (PASID) selects a context descriptor (CD). The unit caches STEs, and the address
// spaces that an STE and a CD describe together. Translations are cached by VMID and ASID: those of
// stage 1, those of both stages combined in one entry, and those of stage 2 alone for streams
// without stage 1. Stage 2 translations of stage 1 table addresses are not cached.
//
// One lock guards all caches. It is never held while a table is walked. A walk that overlaps with
// an invalidation serves its own request only and is not cached.

internal import Synchronization

package final class SMMUv3Unit: Sendable {
  /// The capabilities of a unit and the sizes of its caches.
  package struct Configuration: Hashable, Sendable {
    package var capabilities = SMMUv3Capabilities()
    package var iotlb = IOTLBGeometry()
    /// The number of sets of the STE cache, each of 4 entries.
    package var streamCacheSets = 16
    /// The number of sets of the cache of address spaces, each of 4 entries.
    package var contextCacheSets = 16
    package var virtualQueues = VirtualQueueCapabilities()

    package init() {}
  }

  /// SMMU_STRTAB_BASE and SMMU_STRTAB_BASE_CFG (§6.3.24, §6.3.25).
  package struct StreamTable: Hashable, Sendable {
    package let base: PhysicalAddress
    /// LOG2SIZE: log2 of the number of StreamIDs.
    package let sizeBits: Int
    /// SPLIT: log2 of the number of StreamIDs of one level 2 table; `nil` for a linear table.
    package let split: Int?

    package init(base: PhysicalAddress, sizeBits: Int, split: Int?) {
      self.base = base
      self.sizeBits = sizeBits
      self.split = split
    }
  }

  package let capabilities: SMMUv3Capabilities
  package let virtualQueues: VirtualQueueCapabilities
  let memory: PhysicalMemory
  let window: FrameWindow
  let state: Mutex<State>
  let events: FaultRecordBuffer<SMMUv3EventRecord>
  let ports = PortList()

  /// The state under the unit's lock. A thread that holds the lock acquires no other lock. SAFETY:
  /// the state owns the memory that its caches point to, and is only reached with the lock held.
  struct State: ~Copyable, @unchecked Sendable {
    /// `nil` until SMMU_CR0.SMMUEN is set. Until then the unit aborts every transaction
    /// (SMMU_GBPA.ABORT).
    var streamTable: StreamTable?
    var streamTableEntries: ConfigurationCache<StreamTableEntry>
    var addressSpaces: ConfigurationCache<SMMUv3AddressSpace>
    var iotlb: IOTLB
    /// The number of invalidations so far.
    var generation: UInt64 = 0
  }

  package init(_ configuration: Configuration, memory: PhysicalMemory) {
    var capabilities = configuration.capabilities
    capabilities.outputAddressBits = SMMUv3Capabilities.encodedSize(
      notBelow: max(capabilities.outputAddressBits, memory.addressBits))
    self.capabilities = capabilities
    virtualQueues = configuration.virtualQueues
    self.memory = memory
    window = memory.window
    state = Mutex(
      State(
        streamTableEntries: ConfigurationCache(sets: configuration.streamCacheSets),
        addressSpaces: ConfigurationCache(sets: configuration.contextCacheSets),
        iotlb: IOTLB(configuration.iotlb)))
    events = FaultRecordBuffer(capacity: 1 << capabilities.eventQueueBits)
  }

  /// Sets the stream table and enables translation (SMMU_CR0.SMMUEN).
  package func enable(_ table: StreamTable) {
    state.withLock { state in
      state.streamTable = table
      state.generation &+= 1
    }
  }

  /// The number of translations in the TLB.
  package var cachedTranslations: Int { state.withLock { $0.iotlb.count } }
}

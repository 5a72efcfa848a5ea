// One SMMUv3, as hardware: a stream table that its driver sets, context descriptors and tables that it
// reads from physical memory or through stage 2 from a guest's, and caches of all of them. What a
// transaction meets follows from the bits in those structures and from what is still cached; software
// changes the latter with commands.
//
// A transaction's stream (its requester id) selects a stream table entry, its substream (PASID) a
// context descriptor; together they are a *stream context*, which is what the unit caches.
// Translations are cached by VMID and ASID: of stage 1, or of both stages in one entry, or of stage 2
// alone for streams without stage 1. Walks of stage 2 within stage 1 are not cached.
//
// As in the VT-d unit, all caches are under one short lock that is not held while tables are read;
// what is found while an invalidation comes in between is used once and not cached.

internal import Synchronization

package final class SMMUv3Unit: Sendable {
  package struct Configuration: Hashable, Sendable {
    package var capabilities = SMMUv3Capabilities()
    package var iotlb = IOTLBGeometry()
    /// Sets of 4 entries.
    package var streamCacheSets = 16
    package var contextCacheSets = 16
    package var virtualQueues = VirtualQueueCapabilities()

    package init() {}
  }

  /// SMMU_STRTAB_BASE and SMMU_STRTAB_BASE_CFG (§6.3.24, §6.3.25).
  package struct StreamTable: Hashable, Sendable {
    package let base: PhysicalAddress
    /// LOG2SIZE: log2 of the streams.
    package let sizeBits: Int
    /// SPLIT: log2 of the streams of one lower table; nil: the table is linear.
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
  let ports = UnitPorts()

  /// What is under the unit's lock. Nothing that holds it takes another lock.
  /// SAFETY: owns the memory that its caches point to, and is only reached with the lock held.
  struct State: ~Copyable, @unchecked Sendable {
    /// Nil until SMMU_CR0.SMMUEN is set; until then everything is aborted (SMMU_GBPA.ABORT).
    var streamTable: StreamTable?
    var streams: ConfigurationCache<StreamTableEntry>
    var contexts: ConfigurationCache<StreamContext>
    var iotlb: IOTLB
    /// How many invalidations there were.
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
        streams: ConfigurationCache(sets: configuration.streamCacheSets),
        contexts: ConfigurationCache(sets: configuration.contextCacheSets),
        iotlb: IOTLB(configuration.iotlb)))
    events = FaultRecordBuffer(capacity: 1 << capabilities.eventQueueBits)
  }

  /// Sets the stream table and enables translation.
  package func enable(_ table: StreamTable) {
    state.withLock { state in
      state.streamTable = table
      state.generation &+= 1
    }
  }

  /// Translations in the TLB now.
  package var cachedTranslations: Int { state.withLock { $0.iotlb.count } }
}

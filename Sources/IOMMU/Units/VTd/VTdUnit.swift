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
    package var iotlb = IotlbGeometry()
    /// Sets of 4 entries.
    package var contextCacheSets = 16
    package var pasidCacheSets = 16

    package init() {}
  }

  package let capabilities: VTdCapabilities
  let memory: PhysicalMemory
  let window: FrameWindow
  let rules: EntryRules
  let state: Mutex<State>
  let faults: Mutex<FaultRecording>
  private let gates = Mutex<[PortGate]>([])

  /// What is under the unit's lock. Nothing that holds it takes another lock.
  /// SAFETY: owns the memory that its caches point to, and is only reached with the lock held.
  struct State: ~Copyable, @unchecked Sendable {
    /// RTADDR_REG, and its TTM field selecting scalable mode; nil before it is set.
    var rootTable: PhysicalAddress?
    var contexts: ConfigurationCache<ScalableContextEntry>
    var spaces: ConfigurationCache<VTdAddressSpace>
    var iotlb: Iotlb
    /// How many invalidations there were.
    var generation: UInt64 = 0
  }

  package init(_ configuration: Configuration, memory: PhysicalMemory) {
    capabilities = configuration.capabilities
    self.memory = memory
    window = memory.window
    rules = VTdSecondStage.rules(
      addressBits: memory.addressBits,
      pageSizes: (capabilities.has2MPages ? 1 : 0) | (capabilities.has1GPages ? 2 : 0),
      controlsSnooping: capabilities.snoopControl)
    state = Mutex(
      State(
        contexts: ConfigurationCache(sets: configuration.contextCacheSets),
        spaces: ConfigurationCache(sets: configuration.pasidCacheSets),
        iotlb: Iotlb(configuration.iotlb)))
    faults = Mutex(FaultRecording(capacity: max(1, capabilities.faultRegisters)))
  }

  /// Sets RTADDR_REG to a scalable-mode root table, and takes it into use.
  package func setRootTable(_ address: PhysicalAddress) {
    state.withLock { state in
      state.rootTable = address
      state.generation &+= 1
    }
  }

  func add(_ gate: PortGate) { gates.withLock { $0.append(gate) } }

  func remove(_ gate: PortGate) { gates.withLock { $0.removeAll { $0 === gate } } }

  /// Waits for requests that may hold what was just removed for `domain` (nil: for any).
  func drain(_ domain: DomainID?) {
    // The list is copied so that ports can come and go meanwhile.
    for gate in gates.withLock({ $0 }) { gate.pass(domain) }
  }
}

/// What a PASID table entry, and the way to it, mean for a request: cached by requester and PASID.
struct VTdAddressSpace: BitwiseCopyable {
  enum Translation: BitwiseCopyable {
    case secondStage(TableRoot)
    case passThrough
  }

  let domain: DomainID
  /// RID_PASID for requests without one.
  let pasid: PASID
  let requester: RequesterID
  let translation: Translation
  /// The highest address that can be translated.
  let lastIOVA: UInt64
  /// FPD of the context, directory or PASID entry.
  let suppressesFaults: Bool
}

// A virtual interface (VINTF) that a guest owns: its command queues, whose registers the guest has in a
// page of its own, and what makes their commands the guest's. The interface fills in the VMID, and
// replaces the stream ids that it has a match for; a command that is not among the few that a guest
// may send, or names another stream, stops its queue.

package import Host
internal import Synchronization

package final class VirtualInterface: Sendable {
  /// LVCMDQ_ERR_MAP: a bit for each queue with an active error.
  package typealias ErrorMap = InlineArray<2, UInt64>

  /// SID_MATCH, SID_REPLACE
  private struct StreamMatch {
    let virtual: UInt32
    let physical: UInt32
  }

  private struct State {
    var streams: [StreamMatch?]
    var queues: [VirtualCommandQueue?]
    /// Page 0; nil until software can store there.
    var pages: SharedRegisters?
    /// A thread looks at it.
    var isWatched = false

    var isInUse: Bool { pages != nil && queues.contains { $0 != nil } }

    var errorMap: ErrorMap {
      var map: ErrorMap = [0, 0]
      for (index, queue) in queues.enumerated() where queue?.hasError == true {
        map[index >> 6] |= 1 << UInt64(index & 63)
      }
      return map
    }
  }

  private let unit: SMMUv3Unit
  private let vmid: UInt16
  private let onError: @Sendable (ErrorMap) -> Void
  private let state: Mutex<State>

  /// - Parameter onError: the interrupt, once for every new error.
  package init(
    of unit: SMMUv3Unit, vmid: UInt16, onError: @escaping @Sendable (ErrorMap) -> Void
  ) {
    self.unit = unit
    self.vmid = vmid
    self.onError = onError
    let capabilities = unit.virtualQueues
    state = Mutex(
      State(
        streams: Array(repeating: nil, count: 1 << capabilities.streamBits),
        queues: Array(repeating: nil, count: 1 << capabilities.queueBitsPerInterface)))
  }

  // MARK: Streams

  /// - Returns: false when all matches are in use.
  package func match(_ virtual: UInt32, _ physical: UInt32) -> Bool {
    state.withLock { state in
      guard let free = state.streams.firstIndex(where: { $0 == nil }) else { return false }
      state.streams[free] = StreamMatch(virtual: virtual, physical: physical)
      return true
    }
  }

  package func unmatch(_ virtual: UInt32) {
    state.withLock { state in
      guard let index = state.streams.firstIndex(where: { $0?.virtual == virtual }) else { return }
      state.streams[index] = nil
    }
  }

  // MARK: Queues

  /// Gives the interface a queue of 2^`sizeBits` commands, disabled.
  /// - Returns: false when the host is short of threads.
  package func addQueue(_ index: Int, base: PhysicalAddress, sizeBits: Int) -> Bool {
    state.withLock { state in
      let queue = VirtualCommandQueue(base: base, sizeBits: sizeBits)
      if let pages = state.pages { queue.reset(VirtualQueueRegisters(of: index, in: pages)) }
      state.queues[index] = queue
      guard watch(&state) else {
        state.queues[index] = nil
        return false
      }
      return true
    }
  }

  /// No command of the queue is executed any more when this returns.
  package func removeQueue(_ index: Int) {
    state.withLock { state in
      state.queues[index] = nil
      guard let pages = state.pages else { return }
      VirtualQueueRegisters(of: index, in: pages)[.status] = 0
    }
  }

  /// Software can store into `pages` from now on.
  /// - Returns: false when the host is short of threads.
  package func share(_ pages: SharedRegisters) -> Bool {
    setPages(pages)
    return state.withLock { state in
      guard watch(&state) else {
        state.pages = nil
        return false
      }
      return true
    }
  }

  func setPages(_ pages: SharedRegisters) {
    state.withLock { state in
      state.pages = pages
      for index in state.queues.indices {
        state.queues[index]?.reset(VirtualQueueRegisters(of: index, in: pages))
      }
    }
  }

  // MARK: Looking

  /// Whether a thread of the interface's own looks.
  var isWatched: Bool { state.withLock { $0.isWatched } }

  private func watch(_ state: inout State) -> Bool {
    guard state.isInUse, !state.isWatched else { return true }
    state.isWatched = PollingThread.start(named: "vintf") { self.look() }
    return state.isWatched
  }

  /// Does what the queues' registers ask for.
  func look() -> PollingThread.Outcome {
    var errors: [ErrorMap] = []
    let finding = state.withLock { state -> PollingThread.Outcome in
      guard state.isInUse, let pages = state.pages else {
        state.isWatched = false
        return .finished
      }
      var hasChanged = false
      for index in state.queues.indices {
        let streams = state.streams
        let progress = state.queues[index]?.look(
          at: VirtualQueueRegisters(of: index, in: pages)
        ) { execute(at: $0, streams) }
        guard let progress else { continue }
        if progress.hasChanged { hasChanged = true }
        if progress.hasFailed { errors.append(state.errorMap) }
      }
      return hasChanged ? .changed : .unchanged
    }
    for map in errors { onError(map) }
    return finding
  }

  // MARK: Commands

  /// - Returns: why the command at `address` was not executed.
  private func execute(
    at address: PhysicalAddress, _ streams: [StreamMatch?]
  ) -> SMMUv3Unit.CommandError.Reason? {
    guard let command = fetch(address) else { return .aborted }
    guard isGuests(command) else { return .illegal }
    let confined = command.confined(toVMID: vmid) { stream in
      streams.first { $0?.virtual == stream }??.physical
    }
    guard let confined else { return .illegalAccess }
    do throws(SMMUv3Unit.CommandError) {
      try unit.execute(CollectionOfOne(confined))
      return nil
    } catch {
      return error.reason
    }
  }

  private func fetch(_ address: PhysicalAddress) -> SMMUv3Command? {
    var words: InlineArray<2, UInt64> = [0, 0]
    let outcome = withUnsafeMutableBytes(of: &words) { unit.memory.read(address, into: $0) }
    guard outcome == .done else { return nil }
    return SMMUv3Command(
      lower: UInt64(littleEndian: words[0]), upper: UInt64(littleEndian: words[1]))
  }

  /// What an interface without HYP_OWN executes; a CMD_SYNC of these queues has no way to tell of its
  /// completion but CONS_INDX. tegra241-cmdqv: tegra241_guest_vcmdq_supports_cmd(), arm-smmu-v3:
  /// arm_smmu_cmdq_needs_busy_polling()
  private func isGuests(_ command: SMMUv3Command) -> Bool {
    switch command.operation {
    case .tlbiASID, .tlbiAddress, .invalidateATC: true
    case .sync: command.completionSignal == 0
    default: false
    }
  }
}

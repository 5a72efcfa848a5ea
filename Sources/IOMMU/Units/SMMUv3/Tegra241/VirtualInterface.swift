// SPDX-License-Identifier: Apache-2.0

// A virtual interface (VINTF) of a guest: its command queues, whose registers are in a page that
// the guest maps, and the confinement of their commands to the guest. The interface sets the VMID,
// and replaces StreamIDs for which it has a match. A command that a guest must not submit, or that
// has another StreamID, stops its queue.
//
// The vIOMMU of the guest owns the interface. The lock of the interface is held while commands
// execute, so a queue that `removeQueue(_:)` has removed executes no further command.

package import Host
internal import Synchronization

package final class VirtualInterface: Sendable {
  /// LVCMDQ_ERR_MAP: one bit per queue, set while its error is active.
  package typealias ErrorMap = InlineArray<2, UInt64>

  /// SID_MATCH, SID_REPLACE
  private struct StreamMatch {
    let virtual: StreamID
    let physical: StreamID
  }

  private struct State {
    var streams: [StreamMatch?]
    var queues: [VirtualCommandQueue?]
    /// Page 0; `nil` until software can map it.
    var pages: SharedRegisters?
    /// Whether a thread polls the registers.
    var isPolled = false

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

  /// - Parameter onError: the interrupt handler, called once for each new error.
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

  /// Adds a match that replaces a virtual StreamID by a physical one.
  /// - Returns: `false` when all matches are in use.
  package func match(_ virtual: StreamID, _ physical: StreamID) -> Bool {
    state.withLock { state in
      guard let free = state.streams.firstIndex(where: { $0 == nil }) else { return false }
      state.streams[free] = StreamMatch(virtual: virtual, physical: physical)
      return true
    }
  }

  /// Removes the match of a virtual StreamID.
  package func unmatch(_ virtual: StreamID) {
    state.withLock { state in
      guard let index = state.streams.firstIndex(where: { $0?.virtual == virtual }) else { return }
      state.streams[index] = nil
    }
  }

  // MARK: Queues

  /// Adds a disabled queue of 2^`sizeBits` commands to the interface.
  /// - Returns: `false` when the host cannot start a thread.
  package func addQueue(_ index: Int, base: PhysicalAddress, sizeBits: Int) -> Bool {
    state.withLock { state in
      let queue = VirtualCommandQueue(base: base, sizeBits: sizeBits)
      if let pages = state.pages { queue.reset(VirtualQueueRegisters(of: index, in: pages)) }
      state.queues[index] = queue
      guard startPolling(&state) else {
        state.queues[index] = nil
        return false
      }
      return true
    }
  }

  /// Removes a queue. No command of the queue is executed after the call.
  package func removeQueue(_ index: Int) {
    state.withLock { state in
      state.queues[index] = nil
      guard let pages = state.pages else { return }
      VirtualQueueRegisters(of: index, in: pages)[.status] = 0
    }
  }

  /// Makes `pages` the register page, which software can map, and starts polling it.
  /// - Returns: `false` when the host cannot start a thread.
  package func share(_ pages: SharedRegisters) -> Bool {
    setPages(pages)
    return state.withLock { state in
      guard startPolling(&state) else {
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

  // MARK: Polling

  /// Whether a thread of the interface polls the registers.
  var isPolled: Bool { state.withLock { $0.isPolled } }

  private func startPolling(_ state: inout State) -> Bool {
    guard state.isInUse, !state.isPolled else { return true }
    state.isPolled = PollingThread.start(named: "vintf") { self.poll() }
    return state.isPolled
  }

  /// Polls the registers of all queues once.
  func poll() -> PollingThread.Outcome {
    var errors: [ErrorMap] = []
    let outcome = state.withLock { state -> PollingThread.Outcome in
      guard state.isInUse, let pages = state.pages else {
        state.isPolled = false
        return .finished
      }
      var hasChanged = false
      for index in state.queues.indices {
        let streams = state.streams
        let result = state.queues[index]?.poll(
          VirtualQueueRegisters(of: index, in: pages)
        ) { execute(at: $0, streams) }
        guard let result else { continue }
        if result.hasChanged { hasChanged = true }
        if result.hasFailed { errors.append(state.errorMap) }
      }
      return hasChanged ? .changed : .unchanged
    }
    for map in errors { onError(map) }
    return outcome
  }

  // MARK: Commands

  /// Executes the command at `address` for the guest.
  /// - Returns: the reason if the command was not executed.
  private func execute(
    at address: PhysicalAddress, _ streams: [StreamMatch?]
  ) -> SMMUv3Unit.CommandError.Reason? {
    guard let command = fetch(address) else { return .aborted }
    guard isAllowedForGuest(command) else { return .illegal }
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

  /// Returns whether an interface without HYP_OWN executes the command. The completion of a
  /// CMD_SYNC in these queues is visible in CONS_INDX only. tegra241-cmdqv:
  /// tegra241_guest_vcmdq_supports_cmd(), arm-smmu-v3: arm_smmu_cmdq_needs_busy_polling()
  private func isAllowedForGuest(_ command: SMMUv3Command) -> Bool {
    switch command.opcode {
    case .tlbiASID, .tlbiAddress, .invalidateATC: true
    case .sync: command.completionSignal == 0
    default: false
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

// One PCI function: its configuration space, its power state, INTx, and the endpoint model behind
// its BARs.
//
// The function is hardware. It decodes memory accesses only in D0 with Memory Space Enable set,
// issues requests only with Bus Master Enable set, and loses its register values when it is reset.
// What the host's PCI core does with the function (enabling, saving and restoring around a reset,
// programming interrupts) is in Function+Host.swift.
//
// Locking: one lock per function, held during a register access and the DMA that the access starts.
// The function delivers interrupts after it has released the lock, so an interrupt receiver can
// access the function.

package import IOMMU
internal import Synchronization

/// A PCI function with its endpoint model.
package final class Function: Sendable {
  package let requester: RequesterID
  package let description: FunctionDescription
  private let path: any DMAPath
  private let state: Mutex<State>

  /// The state that the function's lock guards.
  struct State: Sendable {
    var config: ConfigSpace
    var model: any Endpoint
    var powerState: PowerState = .d0
    var intxIsAsserted = false
    var receiver: (@Sendable (Interrupt) -> Void)?
  }

  /// An interrupt that the function sends to the host.
  package enum Interrupt: Sendable, Equatable {
    /// INTx is asserted and not masked by Interrupt Disable.
    case intx
    /// An MSI or MSI-X message.
    case message(vector: Int)
  }

  /// The power states that functions support, with the values of PMCSR.PowerState (PCIe §7.5.2.2).
  package enum PowerState: UInt16, Sendable {
    case d0 = 0
    case d3hot = 3
  }

  package init(
    _ model: any Endpoint, description: FunctionDescription, at requester: RequesterID,
    path: any DMAPath
  ) {
    self.requester = requester
    self.description = description
    self.path = path
    state = Mutex(State(config: description.configSpace(), model: model))
    path.setPageResponseReceiver { [weak self] group, response in
      self?.handle(response, to: group)
    }
  }

  /// Bytes of configuration space.
  package var configSize: Int {
    description.isExpress ? ConfigSize.extended : ConfigSize.conventional
  }

  /// Reads a register of configuration space.
  package func readConfig<Register: FixedWidthInteger & UnsignedInteger>(
    _ offset: Int, as type: Register.Type = Register.self
  ) -> Register {
    state.withLock { $0.config.read(offset) }
  }

  /// Writes a register of configuration space. A write of Initiate Function Level Reset resets the
  /// function.
  package func writeConfig<Register: FixedWidthInteger & UnsignedInteger & Sendable>(
    _ offset: Int, _ value: Register
  ) {
    withState { state, interrupts in
      state.config.write(offset, value)
      if initiatesReset(offset, value) { reset(&state) }
      appendINTx(state, to: &interrupts)
    }
  }

  /// Reads 1, 2, 4 or 8 bytes from a BAR. When the function does not decode memory accesses, the
  /// read is an unsupported request and returns ones.
  package func read(_ access: RegisterAccess) -> UInt64 {
    state.withLock { state in
      guard decodes(access, state) else { return .max }
      return state.model.read(access)
    }
  }

  /// Writes 1, 2, 4 or 8 bytes to a BAR. When the function does not decode memory accesses, the
  /// write is dropped.
  package func write(_ access: RegisterAccess, _ value: UInt64) {
    withState { state, interrupts in
      guard decodes(access, state) else { return }
      var port = UpstreamPort(path: path, rights: state.requestRights(description))
      state.model.write(access, value, through: &port)
      applyInterrupts(of: port, &state, &interrupts)
    }
  }

  /// Gives the model the response to one of its page request groups. The model may continue its
  /// DMA, so the caller holds no lock that a request needs.
  private func handle(_ response: PageResponse, to group: UInt32) {
    withState { state, interrupts in
      var port = UpstreamPort(path: path, rights: state.requestRights(description))
      state.model.handle(response, to: group, through: &port)
      applyInterrupts(of: port, &state, &interrupts)
    }
  }

  private func applyInterrupts(
    of port: UpstreamPort, _ state: inout State, _ interrupts: inout [Interrupt]
  ) {
    if let level = port.intxLevel { state.intxIsAsserted = level }
    updateInterruptStatus(&state)
    for vector in port.raisedVectors { appendMessage(vector, state, to: &interrupts) }
    appendINTx(state, to: &interrupts)
  }

  /// Sets the receiver of interrupts. With `nil` the host drops every interrupt.
  package func setInterruptReceiver(_ receiver: (@Sendable (Interrupt) -> Void)?) {
    state.withLock { $0.receiver = receiver }
  }

  // MARK: With the lock held

  /// Runs `body` with the lock held, then delivers the interrupts that `body` has collected.
  func withState<Result: Sendable>(
    _ body: (inout State, inout [Interrupt]) -> Result
  ) -> Result {
    let (result, interrupts, receiver) = state.withLock { state in
      var interrupts: [Interrupt] = []
      let result = body(&state, &interrupts)
      return (result, interrupts, state.receiver)
    }
    if let receiver { for interrupt in interrupts { receiver(interrupt) } }
    return result
  }

  /// Resets the function (PCIe §6.6.2): every register and the model are as after power-on.
  func reset(_ state: inout State) {
    state.config = description.configSpace()
    state.model.reset()
    path.resetDeviceTLB()
    state.powerState = .d0
    state.intxIsAsserted = false
  }

  /// Copies the level of INTx to Interrupt Status, which shows the level even while Interrupt
  /// Disable masks INTx.
  private func updateInterruptStatus(_ state: inout State) {
    var status = StatusRegister(rawValue: state.config.read(Type0Header.status))
    if state.intxIsAsserted { status.insert(.interrupt) } else { status.remove(.interrupt) }
    state.config.set(Type0Header.status, status.rawValue)
  }

  private func decodes(_ access: RegisterAccess, _ state: State) -> Bool {
    state.command.contains(.memorySpace) && state.powerState == .d0
  }

  private func initiatesReset<Register: FixedWidthInteger>(_ offset: Int, _ value: Register) -> Bool
  {
    guard description.hasFunctionLevelReset,
      let express = description.offset(of: CapabilityID.express)
    else { return false }
    // Initiate Function Level Reset is bit 15 of Device Control, so the bit is in the upper byte.
    let shift = (express + Express.deviceControl + 1 - offset) * 8
    guard shift >= 0, shift < Register.bitWidth else { return false }
    return UInt8(truncatingIfNeeded: value >> shift) & 0x80 != 0
  }

  private func appendINTx(_ state: State, to interrupts: inout [Interrupt]) {
    if state.intxIsAsserted, state.messageVectors(description) == nil,
      !state.command.contains(.interruptDisable)
    {
      interrupts.append(.intx)
    }
  }

  private func appendMessage(
    _ vector: Int, _ state: State, to interrupts: inout [Interrupt]
  ) {
    // A message is a memory write, so the function must be bus master.
    guard state.isBusMaster, let enabled = state.messageVectors(description) else { return }
    // When software has allocated fewer vectors than the model uses, several vectors of the model
    // share one message (PCIe §7.7.1.2).
    interrupts.append(.message(vector: vector % enabled))
  }
}

extension Function.State {
  var command: CommandRegister { CommandRegister(rawValue: config.read(Type0Header.command)) }
  fileprivate var isBusMaster: Bool { command.contains(.busMaster) && powerState == .d0 }

  /// What configuration space allows the model's requests.
  fileprivate func requestRights(_ description: FunctionDescription) -> UpstreamPort.Rights {
    var rights = UpstreamPort.Rights(isBusMaster: isBusMaster)
    if let offset = description.extendedOffset(of: ExtendedCapabilityID.ats) {
      rights.usesATS = config.read(offset + ATS.control) & ATS.enable != 0
    }
    if let offset = description.extendedOffset(of: ExtendedCapabilityID.pageRequest) {
      let control: UInt16 = config.read(offset + PageRequestInterface.control)
      rights.requestsPages = rights.usesATS && control & PageRequestInterface.enable != 0
    }
    if let offset = description.extendedOffset(of: ExtendedCapabilityID.pasid) {
      let control: UInt16 = config.read(offset + PASIDCapability.control)
      rights.hasPASID = control & PASIDCapability.enable != 0
      rights.executes = control & PASIDCapability.execute != 0
      rights.isPrivileged = control & PASIDCapability.privileged != 0
    }
    return rights
  }

  /// The number of MSI-X or MSI vectors that software has enabled, or `nil` while both are
  /// disabled.
  fileprivate func messageVectors(_ description: FunctionDescription) -> Int? {
    if let offset = description.offset(of: CapabilityID.msix) {
      let control: UInt16 = config.read(offset + MSIX.control)
      if control & MSIX.enable != 0 { return Int(control & MSIX.tableSizeMask) + 1 }
    }
    if let offset = description.offset(of: CapabilityID.msi) {
      let control: UInt16 = config.read(offset + MSI.control)
      if control & MSI.enable != 0 { return 1 << Int((control & MSI.multipleEnableMask) >> 4) }
    }
    return nil
  }
}

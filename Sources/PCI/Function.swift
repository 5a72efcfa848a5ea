// One PCI function: registers that all functions have, in front of a model that makes it special.
//
// The function is hardware. It decodes memory only while Command.MemorySpace is set and it is in D0,
// masters the bus only while Command.BusMaster is set, and forgets its registers when it is reset.
// What the *host's* PCI core does with it (enabling it, saving and restoring around a reset,
// programming its interrupts) is in Function+Host.swift.
//
// Locking: one lock per function, held over a register access and the DMA it starts. Interrupts are
// handed out after the lock is dropped, so a receiver may access the function again.

package import IOMMU
internal import Synchronization

package final class Function: Sendable {
  package let requester: RequesterID
  package let description: FunctionDescription
  private let port: any DMAPath
  private let state: Mutex<State>

  /// What the lock protects.
  struct State: Sendable {
    var config: ConfigSpace
    var model: any Endpoint
    var powerState: PowerState = .d0
    var pinAsserted = false
    var receiver: (@Sendable (Interrupt) -> Void)?
  }

  /// An interrupt on its way to the host.
  package enum Interrupt: Sendable, Equatable {
    /// The pin is asserted and not masked by Command.InterruptDisable.
    case pin
    case message(vector: Int)
  }

  package enum PowerState: UInt16, Sendable {
    case d0 = 0
    case d3hot = 3
  }

  package init(
    _ model: any Endpoint, description: FunctionDescription, at requester: RequesterID,
    port: any DMAPath
  ) {
    self.requester = requester
    self.description = description
    self.port = port
    state = Mutex(State(config: description.configSpace(), model: model))
    port.setPageResponseReceiver { [weak self] group, response in
      self?.take(response, to: group)
    }
  }

  /// Bytes of configuration space.
  package var configSize: Int {
    description.isExpress ? ConfigSize.extended : ConfigSize.conventional
  }

  package func readConfig<Register: FixedWidthInteger & UnsignedInteger>(
    _ offset: Int, as type: Register.Type = Register.self
  ) -> Register {
    state.withLock { $0.config.read(offset) }
  }

  package func writeConfig<Register: FixedWidthInteger & UnsignedInteger & Sendable>(
    _ offset: Int, _ value: Register
  ) {
    change { state, interrupts in
      state.config.write(offset, value)
      if initiatesReset(offset, value) { reset(&state) }
      deliverPin(state, to: &interrupts)
    }
  }

  /// A memory read of 1, 2, 4 or 8 bytes, by offset in a base address range. A function that does not
  /// decode is an unsupported request: ones.
  package func read(_ access: RegisterAccess) -> UInt64 {
    state.withLock { state in
      guard decodes(access, state) else { return .max }
      return state.model.read(access)
    }
  }

  package func write(_ access: RegisterAccess, _ value: UInt64) {
    change { state, interrupts in
      guard decodes(access, state) else { return }
      var bus = UpstreamPort(port: port, rights: state.busRights(description))
      state.model.write(access, value, through: &bus)
      finish(bus, &state, &interrupts)
    }
  }

  /// The answer to page requests of the model, which may go on with what it was doing. Called without
  /// locks that a request of the model might need.
  private func take(_ response: PageResponse, to group: UInt32) {
    change { state, interrupts in
      var bus = UpstreamPort(port: port, rights: state.busRights(description))
      state.model.take(response, to: group, through: &bus)
      finish(bus, &state, &interrupts)
    }
  }

  private func finish(_ bus: UpstreamPort, _ state: inout State, _ interrupts: inout [Interrupt]) {
    if let pin = bus.pin { state.pinAsserted = pin }
    updateInterruptStatus(&state)
    for vector in bus.raised { deliver(vector, state, to: &interrupts) }
    deliverPin(state, to: &interrupts)
  }

  /// Where interrupts go; nil drops them, as an unclaimed vector does.
  package func setInterruptReceiver(_ receiver: (@Sendable (Interrupt) -> Void)?) {
    state.withLock { $0.receiver = receiver }
  }

  // MARK: With the lock held

  /// Runs `body` with the lock held and hands out the interrupts it collected afterwards.
  func change<Result: Sendable>(
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

  /// Function level reset (PCIe §6.6.2): every register and the model as after power-on.
  func reset(_ state: inout State) {
    state.config = description.configSpace()
    state.model.reset()
    port.resetDeviceTLB()
    state.powerState = .d0
    state.pinAsserted = false
  }

  /// Keeps Status.Interrupt what the pin is; it shows the pin even while InterruptDisable masks it.
  func updateInterruptStatus(_ state: inout State) {
    var status = Status(rawValue: state.config.read(Header.status))
    if state.pinAsserted { status.insert(.interrupt) } else { status.remove(.interrupt) }
    state.config.set(Header.status, status.rawValue)
  }

  private func decodes(_ access: RegisterAccess, _ state: State) -> Bool {
    state.command.contains(.memorySpace) && state.powerState == .d0
  }

  private func initiatesReset<Register: FixedWidthInteger>(_ offset: Int, _ value: Register) -> Bool
  {
    guard description.hasFunctionLevelReset,
      let express = description.offset(of: CapabilityID.express)
    else { return false }
    // The bit is in the upper byte of Device Control.
    let shift = (express + Express.deviceControl + 1 - offset) * 8
    guard shift >= 0, shift < Register.bitWidth else { return false }
    return UInt8(truncatingIfNeeded: value >> shift) & 0x80 != 0
  }

  private func deliverPin(_ state: State, to interrupts: inout [Interrupt]) {
    if state.pinAsserted, state.messageVectors(description) == nil,
      !state.command.contains(.interruptDisable)
    {
      interrupts.append(.pin)
    }
  }

  private func deliver(_ vector: Int, _ state: State, to interrupts: inout [Interrupt]) {
    // A message is a memory write, so it needs bus mastering.
    guard state.isBusMaster, let enabled = state.messageVectors(description) else { return }
    // With fewer messages than causes the function folds them (§7.7.1.2).
    interrupts.append(.message(vector: vector % enabled))
  }
}

extension Function.State {
  var command: Command { Command(rawValue: config.read(Header.command)) }
  var isBusMaster: Bool { command.contains(.busMaster) && powerState == .d0 }

  func busRights(_ description: FunctionDescription) -> UpstreamPort.Rights {
    var rights = UpstreamPort.Rights(isMaster: isBusMaster)
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

  /// Messages that software has enabled; nil while it has enabled neither kind.
  func messageVectors(_ description: FunctionDescription) -> Int? {
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

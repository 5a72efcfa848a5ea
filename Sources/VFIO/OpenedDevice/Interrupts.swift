// SPDX-License-Identifier: Apache-2.0

// Interrupts of an opened device (drivers/vfio/pci/vfio_pci_intrs.c): which of INTx, MSI and MSI-X
// is enabled, and the client's eventfd for each vector. At most one kind is enabled at a time. VFIO
// itself has two more eventfds: ERR, for errors that the device reports, and REQ, by which the host
// requests the device back.
//
// INTx is a level. When INTx is signalled, VFIO masks it until the client unmasks it. Unmasking
// while INTx is asserted signals again. VFIO masks INTx in the function with Interrupt Disable, so
// the client's own Interrupt Disable bit is virtual.
//
// Locking: one lock (the kernel's igate), which is held while descriptors are duplicated from the
// client, because a call sets descriptors one by one. The function's lock comes after it.

internal import Host
internal import PCI
internal import Synchronization
internal import SystemPackage
internal import UAPI

final class Interrupts: Sendable {
  private let function: Function
  private let device: VFIODevice
  private let watcher: EventWatcher
  private let state = Mutex(State())

  private enum Kind: Sendable {
    case intx
    case msi
    case msix
  }

  private struct State: Sendable {
    /// The enabled kind, if any.
    var kind: Kind?
    /// The eventfd of each vector that has one. INTx is vector 0.
    var triggers: [Int: EventDescriptor] = [:]
    /// The number of vectors with which MSI or MSI-X has been enabled. MSI gets more vectors only
    /// after it has been disabled.
    var allocatedVectors = 0
    var intxIsMasked = false
    /// The client's Interrupt Disable bit.
    var intxIsDisabled = false
    /// The watch of the eventfd that unmasks INTx.
    var unmaskWatch: EventWatch?
    /// The eventfd of ERR.
    var errorTrigger: EventDescriptor?
    /// The eventfd of REQ.
    var requestTrigger: EventDescriptor?
  }

  /// - Parameters:
  ///   - device: Keeps ``msiShift`` after close, as the kernel's device does.
  ///   - watcher: Watches the eventfd that unmasks INTx.
  init(_ device: VFIODevice, _ watcher: EventWatcher) {
    self.device = device
    self.watcher = watcher
    function = device.function
  }

  var msiIsEnabled: Bool { state.withLock { $0.kind == .msi } }

  /// Returns the number of interrupts of index `index` (vfio_pci_get_irq_count()).
  /// - Parameter interruptPin: The Interrupt Pin register as the client sees it.
  func count(_ index: UInt32, interruptPin: UInt8) -> UInt32 {
    switch index {
    case InterruptIndex.intx: interruptPin != 0 ? 1 : 0
    case InterruptIndex.msi: UInt32(function.description.msiVectors)
    case InterruptIndex.msix: UInt32(function.description.msixTable?.vectors ?? 0)
    case InterruptIndex.error, InterruptIndex.request: 1
    default: 0
    }
  }

  /// Starts to receive the function's interrupts.
  func start() {
    function.setInterruptReceiver { [weak self] interrupt in self?.receive(interrupt) }
  }

  /// Disables every interrupt and releases every eventfd (vfio_pci_core_disable()).
  func stop() {
    function.setInterruptReceiver(nil)
    let watch = state.withLock { state in
      let watch = state.unmaskWatch
      disable(&state)
      state.errorTrigger = nil
      state.requestTrigger = nil
      return watch
    }
    watch?.cancel()
  }

  // MARK: From the function

  private func receive(_ interrupt: Function.Interrupt) {
    state.withLock { state in
      switch interrupt {
      case .intx:
        // vfio_intx_handler()
        guard state.kind == .intx, !state.intxIsMasked, function.maskINTxIfAsserted() else {
          return
        }
        state.intxIsMasked = true
        signalINTx(state)
      case .message(let vector):
        state.triggers[vector]?.signal()
      }
    }
  }

  /// Follows a write of the client's Interrupt Disable bit (vfio_basic_config_write()).
  func setINTxDisabled(_ disabled: Bool) {
    state.withLock { state in
      guard disabled != state.intxIsDisabled else { return }
      state.intxIsDisabled = disabled
      if disabled { maskINTx(&state) } else { unmaskINTx(&state) }
    }
  }

  // MARK: From the client

  /// One VFIO_DEVICE_SET_IRQS that has been validated.
  struct Request: Sendable {
    /// One of ``InterruptIndex``.
    let index: UInt32
    let action: Action
    /// The first vector.
    let start: Int
    /// One element for each vector.
    let data: [Element]
    /// The number of vectors.
    var count: Int { data.count }

    enum Action: Sendable { case mask, unmask, trigger }
    enum Element: Sendable { case none, flag(Bool), descriptor(Int32) }
    enum Form: Sendable { case none, flags, descriptors }
    let form: Form
  }

  /// vfio_pci_set_irqs_ioctl()
  func set(_ request: Request, client: any Client) throws(Errno) {
    // The watch is cancelled without the lock, because the watch's handler takes the lock.
    var ended: EventWatch?
    defer { ended?.cancel() }
    try state.withLock { state throws(Errno) in
      try apply(request, &state, client, ended: &ended)
    }
  }

  private func apply(
    _ request: Request, _ state: inout State, _ client: any Client, ended: inout EventWatch?
  ) throws(Errno) {
    switch (request.index, request.action) {
    case (InterruptIndex.intx, .mask): try maskINTx(request, &state)
    case (InterruptIndex.intx, .unmask): try unmaskINTx(request, &state, client, ended: &ended)
    case (InterruptIndex.intx, .trigger): try triggerINTx(request, &state, client, ended: &ended)
    case (InterruptIndex.msi, .trigger): try triggerMessages(request, .msi, &state, client)
    case (InterruptIndex.msix, .trigger): try triggerMessages(request, .msix, &state, client)
    case (InterruptIndex.error, .trigger):
      try Self.trigger(&state.errorTrigger, request, client)
    case (InterruptIndex.request, .trigger):
      try Self.trigger(&state.requestTrigger, request, client)
    default: throw .inappropriateIOCTLForDevice
    }
  }

  private func disable(_ state: inout State) {
    switch state.kind {
    case .msi, .msix: function.disableMessages()
    case .intx, nil: break
    }
    state.kind = nil
    state.triggers = [:]
    state.allocatedVectors = 0
    state.intxIsMasked = false
    state.unmaskWatch = nil
  }

  /// log2 of the vectors of the last MSI that was enabled.
  var msiShift: Int { device.msiShift }
}

// MARK: INTx

extension Interrupts {
  /// vfio_pci_set_intx_mask()
  private func maskINTx(_ request: Request, _ state: inout State) throws(Errno) {
    guard state.kind == .intx, request.start == 0, request.count == 1 else {
      throw .invalidArgument
    }
    switch request.data[0] {
    case .none, .flag(true): maskINTx(&state)
    case .flag(false): break
    case .descriptor: throw .inappropriateIOCTLForDevice
    }
  }

  /// vfio_pci_set_intx_unmask()
  private func unmaskINTx(
    _ request: Request, _ state: inout State, _ client: any Client, ended: inout EventWatch?
  ) throws(Errno) {
    guard state.kind == .intx, request.start == 0, request.count == 1 else {
      throw .invalidArgument
    }
    switch request.data[0] {
    case .none, .flag(true): unmaskINTx(&state)
    case .flag(false): break
    case .descriptor(let number) where number >= 0:
      let event = try EventDescriptor(client.duplicateDescriptor(number))
      // The kernel ends a watch when the last descriptor of its eventfd is closed (EPOLLHUP). Here
      // the server itself holds a descriptor, so it looks for any other descriptor of the eventfd.
      if let watch = state.unmaskWatch, watch.event.isOpenElsewhere { throw .resourceBusy }
      let watch = try watcher.watch(event) { [weak self] in
        self?.state.withLock { self?.unmaskINTx(&$0) }
      }
      ended = state.unmaskWatch
      state.unmaskWatch = watch
    case .descriptor:
      ended = state.unmaskWatch
      state.unmaskWatch = nil
    }
  }

  /// vfio_pci_set_intx_trigger()
  private func triggerINTx(
    _ request: Request, _ state: inout State, _ client: any Client, ended: inout EventWatch?
  ) throws(Errno) {
    if state.kind == .intx, request.count == 0, request.form == .none {
      ended = state.unmaskWatch
      disable(&state)
      return
    }
    guard state.kind == .intx || state.kind == nil, request.start == 0, request.count == 1 else {
      throw .invalidArgument
    }
    if case .descriptor(let number) = request.data[0] {
      let event = number >= 0 ? try EventDescriptor(client.duplicateDescriptor(number)) : nil
      state.triggers[0] = event
      if state.kind == nil { enableINTx(&state) }
      return
    }
    guard state.kind == .intx else { throw .invalidArgument }
    if case .flag(false) = request.data[0] { return }
    signalINTx(state)
  }

  /// vfio_intx_enable(). If INTx is asserted already, it is signalled and masked at once.
  private func enableINTx(_ state: inout State) {
    state.kind = .intx
    state.intxIsMasked = state.intxIsDisabled
    function.setINTxEnabled(!state.intxIsMasked)
    if !state.intxIsMasked, function.maskINTxIfAsserted() {
      state.intxIsMasked = true
      signalINTx(state)
    }
  }

  /// __vfio_pci_intx_mask(). The function's Interrupt Disable bit follows the client's bit also
  /// while another kind of interrupt is enabled.
  private func maskINTx(_ state: inout State) {
    if state.kind == .intx, state.intxIsMasked { return }
    function.setINTxEnabled(false)
    state.intxIsMasked = state.kind == .intx
  }

  /// vfio_pci_intx_unmask_handler(). While INTx is still asserted, it is signalled and stays
  /// masked, because it would interrupt at once if it were unmasked.
  private func unmaskINTx(_ state: inout State) {
    guard state.kind == .intx else {
      function.setINTxEnabled(true)
      return
    }
    guard state.intxIsMasked, !state.intxIsDisabled else { return }
    state.intxIsMasked = !function.unmaskINTxUnlessAsserted()
    if state.intxIsMasked { signalINTx(state) }
  }

  /// vfio_send_intx_eventfd()
  private func signalINTx(_ state: State) {
    if state.kind == .intx, !state.intxIsDisabled { state.triggers[0]?.signal() }
  }
}

// MARK: MSI and MSI-X

extension Interrupts {
  /// vfio_pci_set_msi_trigger()
  private func triggerMessages(
    _ request: Request, _ kind: Kind, _ state: inout State, _ client: any Client
  ) throws(Errno) {
    if state.kind == kind, request.count == 0, request.form == .none {
      disable(&state)
      return
    }
    guard state.kind == kind || state.kind == nil else { throw .invalidArgument }

    if request.form == .descriptors {
      let wasDisabled = state.kind == nil
      if wasDisabled { try enable(kind, vectors: request.start + request.count, &state) }
      do throws(Errno) {
        try setBlock(request, &state, client)
      } catch {
        if wasDisabled { disable(&state) }
        throw error
      }
      return
    }

    guard state.kind == kind else { throw .invalidArgument }
    for (offset, element) in request.data.enumerated() {
      if case .flag(false) = element { continue }
      state.triggers[request.start + offset]?.signal()
    }
  }

  /// vfio_msi_enable()
  private func enable(_ kind: Kind, vectors: Int, _ state: inout State) throws(Errno) {
    // pci_alloc_irq_vectors() needs at least one vector.
    guard vectors > 0 else { throw .outOfRange }
    state.kind = kind
    state.allocatedVectors = vectors
    if kind == .msi {
      function.enableMSI(vectors: vectors)
      device.setMSIShift(Int.bitWidth - (vectors * 2 - 1).leadingZeroBitCount - 1)
    } else {
      function.enableMSIX()
    }
  }

  /// vfio_msi_set_block(). On an error the vectors up to and including the failing one have no
  /// eventfd.
  private func setBlock(
    _ request: Request, _ state: inout State, _ client: any Client
  ) throws(Errno) {
    for (offset, element) in request.data.enumerated() {
      guard case .descriptor(let number) = element else { continue }
      let vector = request.start + offset
      do throws(Errno) {
        try setTrigger(number, vector, &state, client)
      } catch {
        for changed in request.start...vector { state.triggers[changed] = nil }
        throw error
      }
    }
  }

  /// vfio_msi_set_vector_signal(). The vector loses its old eventfd also when the new one is
  /// refused.
  private func setTrigger(
    _ number: Int32, _ vector: Int, _ state: inout State, _ client: any Client
  ) throws(Errno) {
    state.triggers[vector] = nil
    guard number >= 0 else { return }
    // MSI-X vectors can be added one by one (has_dyn_msix). MSI allocates all its vectors at once.
    guard state.kind == .msix || vector < state.allocatedVectors else { throw .invalidArgument }
    state.triggers[vector] = try EventDescriptor(client.duplicateDescriptor(number))
  }
}

// MARK: ERR and REQ

extension Interrupts {
  /// vfio_pci_set_ctx_trigger_single()
  private static func trigger(
    _ event: inout EventDescriptor?, _ request: Request, _ client: any Client
  ) throws(Errno) {
    guard request.start == 0, request.count <= 1 else { throw .invalidArgument }
    switch (request.form, request.data.first) {
    case (.none, let element):
      guard let current = event else { throw .invalidArgument }
      if element == nil { event = nil } else { current.signal() }
    case (.flags, .flag(let fire)):
      if fire { event?.signal() }
    case (.descriptors, .descriptor(-1)):
      event = nil
    case (.descriptors, .descriptor(let number)) where number >= 0:
      event = try EventDescriptor(client.duplicateDescriptor(number))
    default:
      throw .invalidArgument
    }
  }
}

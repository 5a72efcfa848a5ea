// Interrupts of an opened device (drivers/vfio/pci/vfio_pci_intrs.c): which of INTx, MSI and MSI-X is
// enabled, and the client's eventfd for each vector. At most one kind is enabled at a time. Beside
// them stand two eventfds of VFIO itself: ERR, the device has reported an error, and REQ, the host
// wants it back.
//
// INTx is a level: when it is signalled it is masked until the client unmasks it, and unmasking an
// asserted pin signals again. Masked means masked in the function (Command.InterruptDisable), which
// is why the client's own interrupt disable bit is virtual.
//
// Locking: one lock (the kernel's igate), held while descriptors are fetched from the client, since
// they are set one by one. The function's lock comes after it.

internal import Host
internal import PCI
internal import Synchronization
internal import SystemPackage
internal import UAPI

final class Interrupts: Sendable {
  let function: Function
  private let device: VFIODevice
  private let state = Mutex(State())

  enum Kind: UInt32, Sendable {
    case pin = 0
    case msi = 1
    case msix = 2
  }

  struct State: Sendable {
    var kind: Kind?
    /// The eventfd of each vector that has one; the pin is vector 0.
    var triggers: [Int: EventDescriptor] = [:]
    /// MSI vectors the function has been given; more only after disabling.
    var allocated = 0
    var pinIsMasked = false
    /// The client's interrupt disable bit.
    var pinIsDisabled = false
    var unmaskWatch: EventWatch?
    var error: EventDescriptor?
    var request: EventDescriptor?
  }

  /// - Parameter device: remembers the MSI limit between openings, as the kernel's does.
  init(_ device: VFIODevice) {
    self.device = device
    function = device.function
  }

  var msiIsEnabled: Bool { state.withLock { $0.kind == .msi } }

  /// Interrupts of index `index` (vfio_pci_get_irq_count()).
  /// - Parameter pin: the interrupt pin register as the client sees it.
  func count(_ index: UInt32, pin: UInt8) -> UInt32 {
    switch index {
    case 0: pin != 0 ? 1 : 0
    case 1: UInt32(function.description.msiVectors)
    case 2: UInt32(function.description.msixTable?.vectors ?? 0)
    case 3, 4: 1
    default: 0
    }
  }

  /// Listens to the function.
  func start() {
    function.setInterruptReceiver { [weak self] interrupt in self?.receive(interrupt) }
  }

  /// Disables everything (vfio_pci_core_disable()).
  func stop() {
    function.setInterruptReceiver(nil)
    let watch = state.withLock { state in
      let watch = state.unmaskWatch
      disable(&state)
      state.error = nil
      state.request = nil
      return watch
    }
    watch?.cancel()
  }

  // MARK: From the function

  private func receive(_ interrupt: Function.Interrupt) {
    state.withLock { state in
      switch interrupt {
      case .pin:
        // vfio_intx_handler()
        guard state.kind == .pin, !state.pinIsMasked, function.maskPinIfAsserted() else { return }
        state.pinIsMasked = true
        signalPin(state)
      case .message(let vector):
        state.triggers[vector]?.signal()
      }
    }
  }

  /// The client's interrupt disable bit has been written (vfio_basic_config_write()).
  func setPinDisabled(_ disabled: Bool) {
    state.withLock { state in
      guard disabled != state.pinIsDisabled else { return }
      state.pinIsDisabled = disabled
      if disabled { maskPin(&state) } else { unmaskPin(&state) }
    }
  }

  // MARK: From the client

  /// One VFIO_DEVICE_SET_IRQS whose header has been validated.
  struct Request: Sendable {
    let index: UInt32
    let action: Action
    let start: Int
    let data: [Element]
    /// Interrupts asked for: `data` has as many elements.
    var count: Int { data.count }

    enum Action: Sendable { case mask, unmask, trigger }
    enum Element: Sendable { case none, flag(Bool), descriptor(Int32) }
    enum Form: Sendable { case none, flags, descriptors }
    let form: Form
  }

  /// vfio_pci_set_irqs_ioctl()
  /// - Returns: what the call returns when it does not fail.
  func set(_ request: Request, client: any Client) throws(Errno) -> Int32 {
    // A watch is cancelled outside the lock: its handler takes the lock.
    var ended: EventWatch?
    defer { ended?.cancel() }
    return try state.withLock { state throws(Errno) in
      try apply(request, &state, client, ended: &ended)
    }
  }

  private func apply(
    _ request: Request, _ state: inout State, _ client: any Client, ended: inout EventWatch?
  ) throws(Errno) -> Int32 {
    switch (request.index, request.action) {
    case (0, .mask): try maskPin(request, &state)
    case (0, .unmask): try unmaskPin(request, &state, client, ended: &ended)
    case (0, .trigger): try triggerPin(request, &state, client, ended: &ended)
    case (1, .trigger): return try triggerMessages(request, .msi, &state, client)
    case (2, .trigger): return try triggerMessages(request, .msix, &state, client)
    case (3, .trigger): try Self.trigger(&state.error, request, client)
    case (4, .trigger): try Self.trigger(&state.request, request, client)
    default: throw .inappropriateIOCTLForDevice
    }
    return 0
  }

  func disable(_ state: inout State) {
    switch state.kind {
    case .msi, .msix: function.disableMessages()
    case .pin, nil: break
    }
    state.kind = nil
    state.triggers = [:]
    state.allocated = 0
    state.pinIsMasked = false
    state.unmaskWatch = nil
  }

  var msiLimit: Int {
    get { device.msiLimit }
    set { device.setMSILimit(newValue) }
  }
}

// MARK: INTx

extension Interrupts {
  /// vfio_pci_set_intx_mask()
  private func maskPin(_ request: Request, _ state: inout State) throws(Errno) {
    guard state.kind == .pin, request.start == 0, request.count == 1 else {
      throw .invalidArgument
    }
    switch request.data[0] {
    case .none, .flag(true): maskPin(&state)
    case .flag(false): break
    case .descriptor: throw .inappropriateIOCTLForDevice
    }
  }

  /// vfio_pci_set_intx_unmask()
  private func unmaskPin(
    _ request: Request, _ state: inout State, _ client: any Client, ended: inout EventWatch?
  ) throws(Errno) {
    guard state.kind == .pin, request.start == 0, request.count == 1 else {
      throw .invalidArgument
    }
    switch request.data[0] {
    case .none, .flag(true): unmaskPin(&state)
    case .flag(false): break
    case .descriptor(let number) where number >= 0:
      let event = try EventDescriptor(client.duplicateDescriptor(number))
      // The kernel ends a watch when the last descriptor of its eventfd is closed (EPOLLHUP).
      if let watch = state.unmaskWatch, watch.event.isOpenElsewhere { throw .resourceBusy }
      let watch = try EventWatcher.shared.watch(event) { [weak self] in
        self?.state.withLock { self?.unmaskPin(&$0) }
      }
      ended = state.unmaskWatch
      state.unmaskWatch = watch
    case .descriptor:
      ended = state.unmaskWatch
      state.unmaskWatch = nil
    }
  }

  /// vfio_pci_set_intx_trigger()
  private func triggerPin(
    _ request: Request, _ state: inout State, _ client: any Client, ended: inout EventWatch?
  ) throws(Errno) {
    if state.kind == .pin, request.count == 0, request.form == .none {
      ended = state.unmaskWatch
      disable(&state)
      return
    }
    guard state.kind == .pin || state.kind == nil, request.start == 0, request.count == 1 else {
      throw .invalidArgument
    }
    if case .descriptor(let number) = request.data[0] {
      let event = number >= 0 ? try EventDescriptor(client.duplicateDescriptor(number)) : nil
      state.triggers[0] = event
      if state.kind == nil { enablePin(&state) }
      return
    }
    guard state.kind == .pin else { throw .invalidArgument }
    if case .flag(false) = request.data[0] { return }
    signalPin(state)
  }

  /// vfio_intx_enable(): an asserted pin fires as soon as it is let through.
  private func enablePin(_ state: inout State) {
    state.kind = .pin
    state.pinIsMasked = state.pinIsDisabled
    function.setPinEnabled(!state.pinIsMasked)
    if !state.pinIsMasked, function.maskPinIfAsserted() {
      state.pinIsMasked = true
      signalPin(state)
    }
  }

  /// __vfio_pci_intx_mask(): the function's bit follows the client's even while another kind of
  /// interrupt is enabled.
  private func maskPin(_ state: inout State) {
    if state.kind == .pin, state.pinIsMasked { return }
    function.setPinEnabled(false)
    state.pinIsMasked = state.kind == .pin
  }

  /// vfio_pci_intx_unmask_handler(): a pin that is still asserted would fire at once, so it is
  /// signalled and left masked.
  private func unmaskPin(_ state: inout State) {
    guard state.kind == .pin else {
      function.setPinEnabled(true)
      return
    }
    guard state.pinIsMasked, !state.pinIsDisabled else { return }
    state.pinIsMasked = !function.unmaskPinUnlessAsserted()
    if state.pinIsMasked { signalPin(state) }
  }

  /// vfio_send_intx_eventfd()
  private func signalPin(_ state: State) {
    if state.kind == .pin, !state.pinIsDisabled { state.triggers[0]?.signal() }
  }
}

// MARK: MSI and MSI-X

extension Interrupts {
  /// vfio_pci_set_msi_trigger()
  private func triggerMessages(
    _ request: Request, _ kind: Kind, _ state: inout State, _ client: any Client
  ) throws(Errno) -> Int32 {
    if state.kind == kind, request.count == 0, request.form == .none {
      disable(&state)
      return 0
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
      return 0
    }

    guard state.kind == kind else { throw .invalidArgument }
    for (offset, element) in request.data.enumerated() {
      if case .flag(false) = element { continue }
      state.triggers[request.start + offset]?.signal()
    }
    return 0
  }

  /// vfio_msi_enable()
  private func enable(_ kind: Kind, vectors: Int, _ state: inout State) throws(Errno) {
    // pci_alloc_irq_vectors() wants at least one.
    guard vectors > 0 else { throw .outOfRange }
    state.kind = kind
    state.allocated = vectors
    if kind == .msi {
      function.enableMSI(vectors: vectors)
      msiLimit = Int.bitWidth - (vectors * 2 - 1).leadingZeroBitCount - 1
    } else {
      function.enableMSIX()
    }
  }

  /// vfio_msi_set_block(): all or nothing, where nothing means that the vectors touched, the failing
  /// one included, are left without an eventfd.
  private func setBlock(
    _ request: Request, _ state: inout State, _ client: any Client
  ) throws(Errno) {
    for (offset, element) in request.data.enumerated() {
      guard case .descriptor(let number) = element else { continue }
      let vector = request.start + offset
      do throws(Errno) {
        try setTrigger(number, vector, &state, client)
      } catch {
        for touched in request.start...vector { state.triggers[touched] = nil }
        throw error
      }
    }
  }

  /// vfio_msi_set_vector_signal(): the old eventfd is gone even when the new one is refused.
  private func setTrigger(
    _ number: Int32, _ vector: Int, _ state: inout State, _ client: any Client
  ) throws(Errno) {
    state.triggers[vector] = nil
    guard number >= 0 else { return }
    // MSI-X vectors are added one by one (has_dyn_msix); MSI gets all of its vectors at once.
    guard state.kind == .msix || vector < state.allocated else { throw .invalidArgument }
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

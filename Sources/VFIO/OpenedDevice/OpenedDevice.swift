// SPDX-License-Identifier: Apache-2.0

// A device from bind to close (struct vfio_pci_core_device while it is enabled). All state that a
// client can change is here. Opening enables and resets the function, and closing stops the
// function, resets it and restores its configuration space, so the next client finds the device in
// its initial state.

internal import Host
internal import PCI
internal import Synchronization
internal import SystemPackage
internal import UAPI

final class OpenedDevice: Sendable {
  private let function: Function
  let interrupts: Interrupts
  private let config: Mutex<VirtualConfig>
  private let ioEvents: IOEventTable
  private let lowPower = Mutex(LowPower())
  /// Configuration space after the reset at opening.
  private let savedConfiguration: ConfigSpace

  /// Whether the client allows runtime power management (struct vfio_pci_core_device:
  /// pm_runtime_engaged).
  private struct LowPower: Sendable {
    var isAllowed = false
    /// The eventfd of VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP.
    var wakeUp: EventDescriptor?
  }

  /// vfio_pci_core_enable()
  init(_ device: VFIODevice) {
    function = device.function
    function.enable()
    if device.canReset { function.resetKeepingConfiguration() }
    savedConfiguration = function.saveConfiguration()
    function.setINTxEnabled(true)
    config = Mutex(VirtualConfig(function))
    let watcher = EventWatcher()
    ioEvents = IOEventTable(watcher)
    interrupts = Interrupts(device, watcher)
    interrupts.start()
  }

  /// vfio_pci_core_disable()
  func close(_ device: VFIODevice) {
    lowPower.withLock { $0 = LowPower() }
    function.setPowerState(.d0)
    function.clearMaster()
    interrupts.stop()
    removeIOEvents()
    if device.canReset { function.resetKeepingConfiguration() }
    function.restoreConfiguration(savedConfiguration)
    function.clearMaster()
  }

  /// Resets the function as VFIO calls pci_try_reset_function(). The client's view of configuration
  /// space stays.
  func reset() {
    function.setPowerState(.d0)
    function.resetKeepingConfiguration()
  }

  /// Returns the number of interrupts of an index: 0 for an index that does not exist.
  func interruptCount(_ index: UInt32) -> UInt32 {
    interrupts.count(index, interruptPin: config.withLock { $0.interruptPin })
  }

  // MARK: ioeventfds

  /// Adds an ioeventfd. A signal while memory is disabled is lost (vfio_pci_ioeventfd_handler()).
  func addIOEvent(_ event: IOEvent, _ descriptor: Int32, client: any Client) throws(Errno) {
    try ioEvents.add(event, descriptor, client: client) { [weak self] in
      guard let self, config.withLock({ $0.isMemoryEnabled }) else { return }
      let access = RegisterAccess(bar: event.bar, offset: event.offset, width: event.width)
      function.write(access, event.value)
    }
  }

  /// Removes all ioeventfds. Waits for the register write that a signal has started.
  func removeIOEvents() { ioEvents.removeAll() }

  func removeIOEvent(_ event: IOEvent) throws(Errno) { try ioEvents.remove(event) }

  // MARK: Low power

  /// Allows low power: vfio_pci_runtime_pm_entry().
  /// - Throws: `.invalidArgument` while low power is already allowed.
  func allowLowPower(wakeUp: EventDescriptor?) throws(Errno) {
    let isFirst = lowPower.withLock { lowPower in
      guard !lowPower.isAllowed else { return false }
      lowPower = LowPower(isAllowed: true, wakeUp: wakeUp)
      return true
    }
    guard isFirst else { throw .invalidArgument }
  }

  /// Ends the permission for low power.
  func endLowPower() { lowPower.withLock { $0 = LowPower() } }

  /// Wakes the device before an access. The first access after
  /// VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP signals the client's eventfd and ends the
  /// permission for low power (vfio_pci_core_runtime_resume()).
  func wake() {
    let event = lowPower.withLock { lowPower in
      guard let event = lowPower.wakeUp else { return EventDescriptor?.none }
      lowPower = LowPower()
      return event
    }
    event?.signal()
  }
}

// MARK: Accesses

/// Accesses to configuration space and to BARs. An access of any length is split into the register
/// accesses that the region takes. An error ends the access, and the caller learns only the error,
/// also when earlier registers have been accessed.
extension OpenedDevice {
  /// Reads from region `region`, from `position` on.
  /// - Returns: Bytes read.
  func read(
    _ region: UInt64, into destination: UserBuffer, at position: UInt64
  ) throws(Errno) -> Int {
    switch region {
    case RegionIndex.config:
      wake()
      return try readConfig(into: destination, at: position)
    case RegionIndex.bars:
      wake()
      return try readBAR(Int(region), into: destination, at: position)
    default:
      // The device has no expansion ROM, no VGA ranges and no device-specific regions.
      throw .invalidArgument
    }
  }

  /// Writes to region `region`, from `position` on.
  /// - Returns: Bytes written.
  func write(
    _ region: UInt64, from source: UserBuffer, at position: UInt64
  ) throws(Errno) -> Int {
    switch region {
    case RegionIndex.config:
      wake()
      return try writeConfig(from: source, at: position)
    case RegionIndex.bars:
      wake()
      return try writeBAR(Int(region), from: source, at: position)
    default:
      throw .invalidArgument
    }
  }

  // MARK: Configuration space, vfio_pci_config_rw()

  private func readConfig(into destination: UserBuffer, at start: UInt64) throws(Errno) -> Int {
    let end = try configEnd(start, destination.count)
    var output = UserBufferWriter(destination)
    var position = Int(start)
    while position < end {
      let (value, width) = config.withLock { config in
        let width = config.accessWidth(at: position, of: end - position)
        return (config.read(at: position, count: width), width)
      }
      try output.append(UInt64(value), width)
      position += width
    }
    try output.flush()
    return destination.count
  }

  private func writeConfig(from source: UserBuffer, at start: UInt64) throws(Errno) -> Int {
    let end = try configEnd(start, source.count)
    var input = UserBufferReader(source)
    var position = Int(start)
    while position < end {
      let (width, isIgnored) = config.withLock { config in
        (
          config.accessWidth(at: position, of: end - position),
          config.ignoresWrites(at: position)
        )
      }
      if !isIgnored {
        let value = try input.load(width, at: position - Int(start))
        writeConfig(UInt32(truncatingIfNeeded: value), at: position, count: width)
      }
      position += width
    }
    return source.count
  }

  /// - Throws: `.badAddress` for an access that is not completely inside configuration space, as
  ///   the kernel answers.
  private func configEnd(_ start: UInt64, _ count: Int) throws(Errno) -> Int {
    let size = UInt64(function.configSize)
    guard start < size, UInt64(count) <= size - start else { throw .badAddress }
    return Int(start) + count
  }

  private func writeConfig(_ value: UInt32, at position: Int, count: Int) {
    let msiIsEnabled = interrupts.msiIsEnabled
    let msiShift = interrupts.msiShift
    let effects = config.withLock {
      $0.write(
        value, at: position, count: count, msiIsEnabled: msiIsEnabled, msiShift: msiShift)
    }
    for effect in effects {
      switch effect {
      case .intxDisable(let isDisabled): interrupts.setINTxDisabled(isDisabled)
      case .powerState(let state): function.setPowerState(state)
      case .functionReset: reset()
      }
    }
  }

  // MARK: BARs, vfio_pci_bar_rw()

  private func readBAR(
    _ index: Int, into destination: UserBuffer, at start: UInt64
  ) throws(Errno) -> Int {
    let transfer = try BARTransfer(function.description, index, start, destination.count)
    var output = UserBufferWriter(destination)
    var position = transfer.start
    while position < transfer.end {
      switch transfer.step(at: position) {
      case .register(let width):
        try requireMemoryEnabled()
        try output.append(function.read(transfer.access(position, width)), width)
        position += UInt64(width)
      case .excluded(let count):
        for _ in 0..<count { try output.append(0xff, 1) }
        position += UInt64(count)
      }
    }
    try output.flush()
    return transfer.count
  }

  private func writeBAR(
    _ index: Int, from source: UserBuffer, at start: UInt64
  ) throws(Errno) -> Int {
    let transfer = try BARTransfer(function.description, index, start, source.count)
    var input = UserBufferReader(source)
    var position = transfer.start
    while position < transfer.end {
      switch transfer.step(at: position) {
      case .register(let width):
        let value = try input.load(width, at: Int(position - transfer.start))
        try requireMemoryEnabled()
        function.write(transfer.access(position, width), value)
        position += UInt64(width)
      case .excluded(let count):
        position += UInt64(count)
      }
    }
    return transfer.count
  }

  /// Checks Memory Space Enable before every register, because a write of a register can clear the
  /// bit: vfio_pci_core_iowrite8() and its siblings.
  private func requireMemoryEnabled() throws(Errno) {
    guard config.withLock({ $0.isMemoryEnabled }) else { throw .ioError }
  }
}

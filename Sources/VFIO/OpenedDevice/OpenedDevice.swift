// A device from bind to close (struct vfio_pci_core_device while it is enabled). All state that a
// client can change is here. Opening enables and resets the function, and closing stops the
// function, resets it and restores its configuration space, so the next client finds the device in
// its initial state.

internal import Host
internal import PCI
internal import Synchronization

final class OpenedDevice: Sendable {
  let function: Function
  let interrupts: Interrupts
  let config: Mutex<VirtualConfig>
  let ioEvents = IOEventTable()
  let lowPower = Mutex(LowPower())
  /// Configuration space after the reset at opening.
  private let savedConfiguration: ConfigSpace

  /// Whether the client allows runtime power management (struct vfio_pci_core_device:
  /// pm_runtime_engaged).
  struct LowPower: Sendable {
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
    interrupts = Interrupts(device)
    interrupts.start()
  }

  /// vfio_pci_core_disable()
  func close(_ device: VFIODevice) {
    lowPower.withLock { $0 = LowPower() }
    function.setPowerState(.d0)
    function.clearMaster()
    interrupts.stop()
    ioEvents.removeAll()
    if device.canReset { function.resetKeepingConfiguration() }
    function.restoreConfiguration(savedConfiguration)
    function.clearMaster()
  }

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

  /// Resets the function as VFIO calls pci_try_reset_function(). The client's view of configuration
  /// space stays.
  func reset() {
    function.setPowerState(.d0)
    function.resetKeepingConfiguration()
  }
}

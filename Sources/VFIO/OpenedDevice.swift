// A device between bind and close (struct vfio_pci_core_device while it is enabled). All state a
// client can make is here, so that the next one starts clean: opening enables and resets the
// function, closing stops it, resets it and puts its configuration back.

internal import Host
internal import PCI
internal import Synchronization

final class OpenedDevice: Sendable {
  let function: Function
  let interrupts: Interrupts
  let config: Mutex<VirtualConfig>
  let ioEvents = IOEventTable()
  let power = Mutex(LowPower())
  private let before: ConfigSpace

  /// Runtime power management that the client has allowed (struct vfio_pci_core_device:
  /// pm_runtime_engaged).
  struct LowPower: Sendable {
    var isEngaged = false
    var wakeUp: EventDescriptor?
  }

  /// vfio_pci_core_enable()
  init(_ device: VFIODevice) {
    function = device.function
    function.enable()
    if device.canReset { function.resetKeepingConfiguration() }
    before = function.saveConfiguration()
    function.setPinEnabled(true)
    config = Mutex(VirtualConfig(function))
    interrupts = Interrupts(device)
    interrupts.start()
  }

  /// vfio_pci_core_disable()
  func close(_ device: VFIODevice) {
    power.withLock { $0 = LowPower() }
    function.setPowerState(.d0)
    function.clearMaster()
    interrupts.stop()
    ioEvents.removeAll()
    if device.canReset { function.resetKeepingConfiguration() }
    function.restoreConfiguration(before)
    function.clearMaster()
  }

  /// Any access wakes a device that sleeps: the client is told and the permission is used up
  /// (vfio_pci_core_runtime_resume()).
  func wake() {
    let event = power.withLock { power in
      guard let event = power.wakeUp else { return EventDescriptor?.none }
      power = LowPower()
      return event
    }
    event?.signal()
  }

  /// pci_try_reset_function() as VFIO calls it: the client's view of configuration space stays.
  func reset() {
    function.setPowerState(.d0)
    function.resetKeepingConfiguration()
  }
}

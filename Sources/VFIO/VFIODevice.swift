// A PCI function that the host has given to VFIO (struct vfio_device), and the sets in which such
// devices must be reset together (struct vfio_device_set).
//
// Locking: the set's lock guards who has which of its devices open, and is held over bind, attach,
// detach and close, as in the kernel. iommufd's control lock comes after it.

package import IOMMUFD
package import PCI
internal import Synchronization

package final class VFIODevice: Sendable {
  package let function: Function
  package let physical: PhysicalDevice
  package let deviceSet: DeviceSet
  /// VFIO_DEVICE_RESET works (vfio_pci_core_device: reset_works).
  package let canReset: Bool
  private let msiLimitState = Mutex(0)
  private let current = Mutex<Session?>(nil)

  /// The one opening of the device that has been bound.
  final class Session: Sendable {
    let owner: ObjectIdentifier
    let context: Context
    let bound: BoundDevice
    let opened: OpenedDevice
    let attachments = Mutex(Attachments())

    init(owner: ObjectIdentifier, context: Context, bound: BoundDevice, opened: OpenedDevice) {
      self.owner = owner
      self.context = context
      self.bound = bound
      self.opened = opened
    }
  }

  package init(
    _ function: Function, physical: PhysicalDevice, in deviceSet: DeviceSet, isAloneOnBus: Bool
  ) {
    self.function = function
    self.physical = physical
    self.deviceSet = deviceSet
    canReset = function.description.hasFunctionLevelReset || (isAloneOnBus && deviceSet.isBus)
  }

  /// Changed with the set's lock held; looked at without it, as the kernel's access_granted is.
  var session: Session? {
    get { current.withLock { $0 } }
    set { current.withLock { $0 = newValue } }
  }

  /// Log2 of the vectors of the last MSI that was enabled. It outlives the opening
  /// (vfio_pci_core_device: msi_qmax).
  var msiLimit: Int { msiLimitState.withLock { $0 } }
  func setMSILimit(_ limit: Int) { msiLimitState.withLock { $0 = limit } }
}

package final class DeviceSet: Sendable {
  let lock = AssertableLock()
  /// Below a port that can reset its bus. Devices of the root complex are each a set of their own.
  package let isBus: Bool
  private let members = Mutex<[VFIODevice]>([])

  package init(isBus: Bool) { self.isBus = isBus }

  /// Called while the machine is built.
  package func add(_ device: VFIODevice) { members.withLock { $0.append(device) } }

  var devices: [VFIODevice] { members.withLock { $0 } }
}

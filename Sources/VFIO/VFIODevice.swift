// SPDX-License-Identifier: Apache-2.0

// A PCI function that the host has bound to vfio-pci (struct vfio_device), and the set of devices
// that are reset together (struct vfio_device_set).
//
// Locking: the lock of a `DeviceSet` guards the bindings of its devices. Bind, attach, detach and
// close hold the lock, as in the kernel. The lock comes before the lock of a context.

package import IOMMUFD
package import PCI
internal import Synchronization

/// A VFIO device, whether it is open or not.
package final class VFIODevice: Sendable {
  package let function: Function
  package let physical: PhysicalDevice
  package let deviceSet: DeviceSet
  /// Whether VFIO_DEVICE_RESET works (struct vfio_pci_core_device: reset_works).
  package let canReset: Bool
  private let lastMSIShift = Mutex(0)
  private let currentBinding = Mutex<DeviceBinding?>(nil)

  /// - Parameter isAloneOnBus: Whether a bus reset resets no other device.
  package init(
    _ function: Function, physical: PhysicalDevice, in deviceSet: DeviceSet, isAloneOnBus: Bool
  ) {
    self.function = function
    self.physical = physical
    self.deviceSet = deviceSet
    canReset = function.description.hasFunctionLevelReset || (isAloneOnBus && deviceSet.isBus)
  }

  /// The binding of the one device file that is bound. It changes with the set's lock held. Readers
  /// need no lock, as for the kernel's vfio_device_file.access_granted.
  var binding: DeviceBinding? {
    get { currentBinding.withLock { $0 } }
    set { currentBinding.withLock { $0 = newValue } }
  }

  /// log2 of the vectors of the last MSI that was enabled. It keeps its value after close
  /// (struct vfio_pci_core_device: msi_qmax).
  var msiShift: Int { lastMSIShift.withLock { $0 } }
  func setMSIShift(_ shift: Int) { lastMSIShift.withLock { $0 = shift } }
}

/// Devices that are reset together.
package final class DeviceSet: Sendable {
  let lock = AssertableLock()
  /// Whether the devices are below a port that can reset their bus. A device of the root complex is
  /// a set of its own.
  package let isBus: Bool
  private let members = Mutex<[Member]>([])

  /// A device refers to its set, so the set does not keep the device.
  private struct Member {
    weak var device: VFIODevice?
  }

  package init(isBus: Bool) { self.isBus = isBus }

  /// Adds a device. The machine adds every device before it serves clients.
  package func add(_ device: VFIODevice) { members.withLock { $0.append(Member(device: device)) } }

  var devices: [VFIODevice] { members.withLock { $0.compactMap(\.device) } }
}

// SPDX-License-Identifier: Apache-2.0

package import IOMMU
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// The selftest interface (drivers/iommu/iommufd/selftest.c): the driver of one mock unit, which
/// all contexts share and which is not a part of the machine. It exists only when the machine
/// enables it, as in a kernel with CONFIG_IOMMUFD_TEST.
package final class Selftest: Sendable {
  let driver: MockDriver
  private let router = RequesterRouter()
  /// In bytes. In the kernel it limits the temporary memory of a pin, and so the number of its
  /// steps. Here it is only stored.
  private let memoryLimit = Mutex<UInt32>(65536)
  /// The number of the last group. Every mock device has a group of its own.
  private let lastGroup = Mutex(0)

  package init(memory: PhysicalMemory) {
    driver = MockDriver(memory: memory)
    driver.setPageRequestSink { [router] request in router.report(request) }
  }

  /// Plugs a new mock device in. ``MockDriver/unplug(_:)`` removes it.
  func plug(_ flags: MockDriver.DeviceFlags) throws(Errno) -> PhysicalDevice {
    try FaultInjection.step()
    let requester = try driver.plug(flags)
    let group = lastGroup.withLock { number in
      number += 1
      return IOMMUGroup(id: number)
    }
    let device = PhysicalDevice(
      name: "iommufd_mock\(requester.rawValue)", requesterID: requester, driver: driver,
      group: group, pasidWidth: flags.contains(.pasid) ? Self.pasidWidth : 0,
      refusesOtherPASIDs: true)
    router.add(device)
    return device
  }

  private static let pasidWidth = 20

  var temporaryMemoryLimit: UInt32 {
    get { memoryLimit.withLock { $0 } }
    set { memoryLimit.withLock { $0 = newValue } }
  }
}

// The mock unit, as the kernel's own tests use it (drivers/iommu/iommufd/selftest.c): one for all open
// files, without a place in the machine. It exists only when the server was told so, as in a kernel
// with CONFIG_IOMMUFD_TEST.

package import IOMMU
internal import Synchronization
internal import SystemPackage
internal import UAPI

package final class Selftest: Sendable {
  let driver: MockDriver
  private let router = FaultRouter()
  /// Bytes of temporary memory that pinning may take: decides in how many steps it is done.
  private let memoryLimit = Mutex<UInt32>(65536)
  /// Numbers of the groups that devices are in, each alone.
  private let nextGroup = Mutex(0)

  package init(memory: PhysicalMemory) {
    driver = MockDriver(memory: memory)
    driver.setPageRequestSink { [router] request in router.report(request) }
  }

  /// A new mock device, for one context. It is unplugged with ``MockDriver/unplug(_:)``.
  func plug(_ flags: MockDriver.DeviceFlags) throws(Errno) -> PhysicalDevice {
    try FaultInjection.step()
    let requester = try driver.plug(flags)
    let group = nextGroup.withLock { number in
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

// The node /dev/vfio/devices/vfioN, and one open(2) of it (drivers/vfio/device_cdev.c, vfio_main.c).
//
// A file starts without access: until BIND_IOMMUFD has tied it to an iommufd every other call is
// EINVAL. Of all open files of a device at most one is bound. Closing it undoes everything.

package import SystemPackage
package import UAPI

package final class VFIODeviceNode: CharacterDevice {
  package let name: String
  package let device: VFIODevice

  package init(_ device: VFIODevice, index: Int) {
    self.device = device
    name = "vfio/devices/vfio\(index)"
  }

  package func open(by client: any Client) throws(Errno) -> any OpenFile { DeviceFile(device) }
}

package final class DeviceFile: OpenFile {
  let device: VFIODevice

  init(_ device: VFIODevice) { self.device = device }

  /// vfio_device_fops has compat_ptr_ioctl: its structures are the same for 32-bit callers.
  package var hasCompatIoctl: Bool { true }

  package var isVFIODevice: Bool { true }

  /// The session, if it is this file that has been bound.
  var session: VFIODevice.Session? {
    guard let session = device.session, session.owner == ObjectIdentifier(self) else { return nil }
    return session
  }

  /// vfio_device_fops_unl_ioctl()
  package func ioctl(
    _ request: UInt32, argument: UInt64, client: any Client
  ) throws(Errno) -> Int32 {
    let call = DeviceCall(client: client, argument: argument)
    let ioctl = IoctlTable.vfioDevice[IoctlNumber(rawValue: request)]
    if ioctl == .vfioDeviceBindIOMMUFD {
      try bind(call)
      return 0
    }
    guard let session else { throw .invalidArgument }
    session.opened.wake()
    switch ioctl {
    case .vfioDeviceAttachIOMMUFDPageTable: try attach(call, session)
    case .vfioDeviceDetachIOMMUFDPageTable: try detach(call, session)
    case .vfioDeviceFeature: try feature(call, session.opened)
    case .vfioDeviceGetRegionInfo: try getRegionInfo(call)
    case .vfioDeviceGetInfo: try getInfo(call)
    case .vfioDeviceGetIRQInfo: try getIRQInfo(call, session.opened)
    case .vfioDeviceGetPCIHotResetInfo: try getHotResetInfo(call, session)
    case .vfioDeviceIOEventFD: try setIOEvent(call, session.opened)
    case .vfioDevicePCIHotReset: try hotReset(call, session)
    case .vfioDeviceReset: try reset(session.opened)
    case .vfioDeviceSetIRQs: return try setIRQs(call, session.opened)
    default: throw .inappropriateIOCTLForDevice
    }
    return 0
  }

  /// vfio_pci_core_mmap(). Registers act when they are accessed, so none can be mapped.
  package func region(for request: MappingRequest) throws(Errno) -> any MappableRegion {
    throw .invalidArgument
  }

  package func release() { close() }
}

/// One ioctl: who calls, and with what argument.
struct DeviceCall {
  let client: any Client
  let argument: UInt64

  /// The first `count` bytes of the argument's struct.
  func load<Arguments: BitwiseCopyable>(
    _ type: Arguments.Type = Arguments.self, count: Int
  ) throws(Errno) -> Arguments {
    try client.loadPrefix(of: type, count: count, at: argument)
  }

  func store<Arguments: BitwiseCopyable>(_ value: Arguments, count: Int) throws(Errno) {
    try client.storePrefix(of: value, count: count, at: argument)
  }
}

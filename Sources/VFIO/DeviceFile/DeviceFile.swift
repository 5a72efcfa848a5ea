// SPDX-License-Identifier: Apache-2.0

// The node /dev/vfio/devices/vfioN, and one open file of the node (drivers/vfio/device_cdev.c,
// vfio_main.c).
//
// A new open file has no access to the device: until VFIO_DEVICE_BIND_IOMMUFD has bound the file to
// an iommufd, every other ioctl, read and write is EINVAL. At most one open file of a device is
// bound. Closing the bound file detaches and unbinds the device and resets it.

package import SystemPackage
package import UAPI

/// The device node of one VFIO device.
package final class VFIODeviceNode: CharacterDevice {
  package let name: String
  package let device: VFIODevice

  package init(_ device: VFIODevice, index: Int) {
    self.device = device
    name = "vfio/devices/vfio\(index)"
  }

  package func open(by client: any Client) throws(Errno) -> any OpenFile { DeviceFile(device) }
}

/// One open file of a device node.
package final class DeviceFile: OpenFile {
  let device: VFIODevice

  init(_ device: VFIODevice) { self.device = device }

  /// vfio_device_fops has compat_ptr_ioctl: the structs are the same for 32-bit callers.
  package var hasCompatIoctl: Bool { true }

  package var isVFIODevice: Bool { true }

  /// The device's binding if this file is the one that has been bound.
  var binding: DeviceBinding? {
    guard let binding = device.binding, binding.owner == ObjectIdentifier(self) else { return nil }
    return binding
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
    guard let binding else { throw .invalidArgument }
    let opened = binding.openedDevice
    opened.wake()
    switch ioctl {
    case .vfioDeviceAttachIOMMUFDPageTable: try attach(call, binding)
    case .vfioDeviceDetachIOMMUFDPageTable: try detach(call, binding)
    case .vfioDeviceFeature: try feature(call, opened)
    case .vfioDeviceGetRegionInfo: try getRegionInfo(call)
    case .vfioDeviceGetInfo: try getInfo(call)
    case .vfioDeviceGetIRQInfo: try getIRQInfo(call, opened)
    case .vfioDeviceGetPCIHotResetInfo: try getHotResetInfo(call, binding)
    case .vfioDeviceIOEventFD: try setIOEvent(call, opened)
    case .vfioDevicePCIHotReset: try hotReset(call, binding)
    case .vfioDeviceReset: try reset(opened)
    case .vfioDeviceSetIRQs: try setIRQs(call, opened)
    default: throw .inappropriateIOCTLForDevice
    }
    return 0
  }

  /// vfio_pci_core_mmap(). A register has an effect when it is accessed, so no region can be
  /// mapped.
  package func region(for request: MappingRequest) throws(Errno) -> any MappableRegion {
    throw .invalidArgument
  }

  package func release() { close() }
}

/// The caller and the argument of one ioctl(2).
struct DeviceCall {
  let client: any Client
  let argument: UInt64

  /// Loads the first `count` bytes of the struct at the argument. The other members are 0.
  func load<Arguments: BitwiseCopyable>(
    _ type: Arguments.Type = Arguments.self, count: Int
  ) throws(Errno) -> Arguments {
    try client.loadPrefix(of: type, count: count, at: argument)
  }

  /// Stores the first `count` bytes of `value` to the struct at the argument.
  func store<Arguments: BitwiseCopyable>(_ value: Arguments, count: Int) throws(Errno) {
    try client.storePrefix(of: value, count: count, at: argument)
  }
}

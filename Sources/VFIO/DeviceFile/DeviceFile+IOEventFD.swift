// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
internal import PCI
internal import SystemPackage
internal import UAPI

extension DeviceFile {
  /// VFIO_DEVICE_IOEVENTFD: vfio_pci_ioctl_ioeventfd()
  func setIOEvent(_ call: DeviceCall, _ opened: OpenedDevice) throws(Errno) {
    let minimum = Ioctl.vfioDeviceIOEventFD.minimumSize
    let request: vfio_device_ioeventfd = try call.load(count: minimum)
    guard request.argsz >= minimum,
      request.flags & ~UInt32(VFIO_DEVICE_IOEVENTFD_SIZE_MASK) == 0,
      request.flags.nonzeroBitCount == 1, request.fd >= -1
    else { throw .invalidArgument }

    // The flag for a width has the value of the width in bytes.
    let event = try IOEvent(
      request.offset, width: Int(request.flags), value: request.data,
      of: device.function.description)
    if request.fd < 0 {
      try opened.removeIOEvent(event)
    } else {
      try opened.addIOEvent(event, request.fd, client: call.client)
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import UAPI

extension Dispatcher {
  /// The handlers of the kernel's ioctls, in the order of the kernel's table. A number without a
  /// handler is ENOTTY, as in a kernel that does not have the command.
  static let handlers: [IoctlHandler] = [
    IoctlHandler(.destroy, ObjectCommands.destroy),
    IoctlHandler(.faultQueueAlloc, FaultQueueCommand.allocate),
    IoctlHandler(.getHardwareInfo, HardwareInfoCommand.execute),
    IoctlHandler(.hardwareQueueAlloc, VIOMMUCommands.allocateHardwareQueue),
    IoctlHandler(.hwptAlloc, HWPTCommands.allocate),
    IoctlHandler(.hwptGetDirtyBitmap, HWPTCommands.getDirtyBitmap),
    IoctlHandler(.hwptInvalidate, HWPTCommands.invalidate),
    IoctlHandler(.hwptSetDirtyTracking, HWPTCommands.setDirtyTracking),
    IoctlHandler(.ioasAlloc, IOASCommands.allocate),
    IoctlHandler(.ioasAllowIOVAs, IOASCommands.allowIOVAs),
    IoctlHandler(.ioasChangeProcess, IOASCommands.changeProcess),
    IoctlHandler(.ioasCopy, IOASCommands.copy),
    IoctlHandler(.ioasIOVARanges, IOASCommands.iovaRanges),
    IoctlHandler(.ioasMap, IOASCommands.map),
    IoctlHandler(.ioasMapFile, IOASCommands.mapFile),
    IoctlHandler(.ioasNoIOMMUGetPA, IOASCommands.noIOMMUGetPhysicalAddress),
    IoctlHandler(.ioasUnmap, IOASCommands.unmap),
    IoctlHandler(.option, OptionCommands.option),
    IoctlHandler(.vdeviceAlloc, VIOMMUCommands.allocateDevice),
    IoctlHandler(.veventqAlloc, VIOMMUCommands.allocateEventQueue),
    IoctlHandler(.vfioIOAS, ContainerIOASCommand.execute),
    IoctlHandler(.viommuAlloc, VIOMMUCommands.allocate),
  ]

  /// The handlers of the commands that the simulator has beside the kernel's, uapi/iommufd_sim.h.
  static let simulatorHandlers: [IoctlHandler] = [
    IoctlHandler(.simFaultLogAlloc, FaultLogCommand.allocate)
  ]
}

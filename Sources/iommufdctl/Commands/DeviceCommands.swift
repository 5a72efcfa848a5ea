// SPDX-License-Identifier: Apache-2.0

// The ioctls of a VFIO device file, which a driver in user space issues on its device.

internal import ArgumentParser
internal import CUAPI
internal import UAPI

let deviceCommands: [any ParsableCommand.Type] = [
  DeviceBind.self, DeviceAttach.self, DeviceDetach.self, DeviceGetInfo.self,
  DeviceGetRegionInfo.self, DeviceGetIRQInfo.self, DeviceSetIRQs.self, DeviceReset.self,
  DeviceFeature.self, RegionRead.self, RegionWrite.self,
]

struct DeviceOption: ParsableArguments {
  @Option(help: "Descriptor of the device file, inherited or made by `open`.") var device: Int32
}

struct DeviceBind: IoctlCommand {
  static let ioctl = Ioctl.vfioDeviceBindIOMMUFD
  static let configuration = ioctlConfiguration(
    "device-bind", "bind a device to an iommufd.",
    discussion: """
      Every other ioctl of the device file is EINVAL before. The binding ends when the device \
      file is closed. The result is the device's object ID in the iommufd.

        iommufdctl device-bind --fd 3 --device 4
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    let iommufd = try session.iommufdDescriptor()
    return try session.call(Self.ioctl, vfio_device_bind_iommufd(), on: target.device) {
      $0.iommufd = iommufd
    } outputs: {
      [.decimal("out_devid", $0.out_devid)]
    }
  }
}

struct DeviceAttach: IoctlCommand {
  static let ioctl = Ioctl.vfioDeviceAttachIOMMUFDPageTable
  static let configuration = ioctlConfiguration(
    "device-attach", "attach a device to an IOAS or a HWPT.",
    discussion: """
      The device's DMA is translated by it from now on; a former attachment is replaced. The \
      result is the object ID of the HWPT.

        iommufdctl device-attach --device 4 --pt 1
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption
  @Option(help: "Object ID of the IOAS or the HWPT.") var pt: Word
  @Option(help: "Only for DMA with this PASID (VFIO_DEVICE_ATTACH_PASID).") var pasid: Word?

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, vfio_device_attach_iommufd_pt(), on: target.device) {
      $0.pt_id = pt.value
      guard let pasid else { return }
      $0.flags = UInt32(VFIO_DEVICE_ATTACH_PASID)
      $0.pasid = pasid.value
    } outputs: {
      [.decimal("pt_id", $0.pt_id)]
    }
  }
}

struct DeviceDetach: IoctlCommand {
  static let ioctl = Ioctl.vfioDeviceDetachIOMMUFDPageTable
  static let configuration = ioctlConfiguration(
    "device-detach", "detach a device from its IOAS or HWPT.",
    discussion: """
      The device's DMA is blocked from now on.

        iommufdctl device-detach --device 4
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption
  @Option(help: "Only for DMA with this PASID (VFIO_DEVICE_DETACH_PASID).") var pasid: Word?

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, vfio_device_detach_iommufd_pt(), on: target.device) {
      guard let pasid else { return }
      $0.flags = UInt32(VFIO_DEVICE_DETACH_PASID)
      $0.pasid = pasid.value
    }
  }
}

struct DeviceGetInfo: IoctlCommand {
  static let ioctl = Ioctl.vfioDeviceGetInfo
  static let configuration = ioctlConfiguration(
    "device-get-info", "describe a device.",
    discussion: """
      The result is the flags field: 1 the device can be reset, 2 it is a PCI device, … Indexes \
      of regions are below num_regions, indexes of interrupts below num_irqs.

        iommufdctl device-get-info --device 4
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(
      Self.ioctl, vfio_device_info(), on: target.device,
      outputs: {
        [
          .hex("flags", $0.flags), .decimal("num_regions", $0.num_regions),
          .decimal("num_irqs", $0.num_irqs),
        ]
      })
  }
}

struct DeviceGetRegionInfo: IoctlCommand {
  static let ioctl = Ioctl.vfioDeviceGetRegionInfo
  static let configuration = ioctlConfiguration(
    "device-get-region-info", "describe a region of a device.",
    discussion: """
      The result is the offset at which pread and pwrite on the device file access the region. \
      Flags: 1 readable, 2 writable, 4 mappable, 8 with capabilities.

        iommufdctl device-get-region-info --device 4 --index 7
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption
  @Option(help: "The region: 0-5 BARs, 6 expansion ROM, 7 configuration space.") var index: Word

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    let info = try Self.info(of: target.device, index: index.value, in: session)
    return Report(
      Self.ioctl.name,
      fields: [.hex("offset", info.offset), .hex("size", info.size), .hex("flags", info.flags)])
  }

  /// Issues the ioctl for region `index` of the device file `device`.
  static func info(
    of device: Int32, index: UInt32, in session: ScriptSession
  ) throws(Failure) -> vfio_region_info {
    var argument = session.sized(vfio_region_info())
    argument.index = index
    try session.issue(ioctl, &argument, on: device)
    return argument
  }
}

struct DeviceGetIRQInfo: IoctlCommand {
  static let ioctl = Ioctl.vfioDeviceGetIRQInfo
  static let configuration = ioctlConfiguration(
    "device-get-irq-info", "describe the interrupts of one index.",
    discussion: """
      The result is the number of interrupts. Flags: 1 eventfd, 2 maskable, 4 automasked, 8 \
      noresize.

        iommufdctl device-get-irq-info --device 4 --index 2
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption
  @Option(help: "The index: 0 INTx, 1 MSI, 2 MSI-X, 3 error, 4 request.") var index: Word

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, vfio_irq_info(), on: target.device) {
      $0.index = index.value
    } outputs: {
      [.decimal("count", $0.count), .hex("flags", $0.flags)]
    }
  }
}

struct DeviceSetIRQs: IoctlCommand {
  static let ioctl = Ioctl.vfioDeviceSetIRQs
  static let configuration = ioctlConfiguration(
    "device-set-irqs", "connect, mask, unmask or trigger interrupts.",
    discussion: """
      With --eventfd and the action `trigger`, each interrupt signals its eventfd from now on; \
      `none` disconnects the interrupt. With --eventfd and `unmask`, a signal of the eventfd \
      unmasks INTx; with `mask` the call is ENOTTY.

      With --bool the action is done once, to the interrupts whose value is 1; with neither \
      option, to --count interrupts. `trigger` with --count 0 disables the index.

        iommufdctl device-set-irqs --device 4 --index 2 --eventfd 5 none 6
        iommufdctl device-set-irqs --device 4 --index 2 --start 1 --count 1
        iommufdctl device-set-irqs --device 4 --index 2 --count 0
      """)

  enum Action: String, ExpressibleByArgument, CaseIterable {
    case mask, unmask, trigger
    var flag: Int32 {
      switch self {
      case .mask: VFIO_IRQ_SET_ACTION_MASK
      case .unmask: VFIO_IRQ_SET_ACTION_UNMASK
      case .trigger: VFIO_IRQ_SET_ACTION_TRIGGER
      }
    }
  }

  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption
  @Option(help: "The index: 0 INTx, 1 MSI, 2 MSI-X, 3 error, 4 request.") var index: Word
  @Option(help: "What to do.") var action = Action.trigger
  @Option(help: "The first interrupt of the index.") var start = Word(0)
  @Option(help: "The number of interrupts, without --eventfd and --bool.") var count: Word?
  @Option(
    parsing: .upToNextOption, help: "The descriptor of an eventfd, or none, for each interrupt.")
  var eventfd: [EventDescriptor] = []
  @Option(parsing: .upToNextOption, help: "0 or 1 for each interrupt.") var bool: [UInt8] = []

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    let (kind, data) = payload
    var header = vfio_irq_set()
    header.argsz = UInt32(Self.ioctl.size + data.count)
    header.flags = UInt32(kind | action.flag)
    header.index = index.value
    header.start = start.value
    header.count = count?.value ?? UInt32(max(eventfd.count, bool.count))
    var bytes = withUnsafeBytes(of: header) { [UInt8]($0) } + data
    try session.issue(Self.ioctl, &bytes, on: target.device)
    return Report(Self.ioctl.name)
  }

  private var payload: (kind: Int32, data: [UInt8]) {
    if !eventfd.isEmpty {
      (VFIO_IRQ_SET_DATA_EVENTFD, eventfd.map(\.number).withUnsafeBytes { [UInt8]($0) })
    } else if !bool.isEmpty {
      (VFIO_IRQ_SET_DATA_BOOL, bool)
    } else {
      (VFIO_IRQ_SET_DATA_NONE, [])
    }
  }
}

/// The descriptor of an eventfd. `none` is -1, which the option parser would read as an option.
struct EventDescriptor: ExpressibleByArgument {
  let number: Int32

  init?(argument: String) {
    guard let number = argument == "none" ? -1 : Int32(argument) else { return nil }
    self.number = number
  }
}

struct DeviceReset: IoctlCommand {
  static let ioctl = Ioctl.vfioDeviceReset
  static let configuration = ioctlConfiguration(
    "device-reset", "reset a device.",
    discussion: """
      EINVAL: the device cannot be reset alone.

        iommufdctl device-reset --device 4
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, value: 0, on: target.device)
  }
}

struct DeviceFeature: IoctlCommand {
  static let ioctl = Ioctl.vfioDeviceFeature
  static let configuration = ioctlConfiguration(
    "device-feature", "probe, read or set a feature of a device.",
    discussion: """
      ENOTTY: the device does not have the feature. The result is the data that the device wrote.

        iommufdctl device-feature --device 4 --feature 3 --probe
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption
  @Option(help: "The number of the feature (VFIO_DEVICE_FEATURE_…).") var feature: Word
  @Flag(help: "Set the feature from the data; without --set it is read.") var set = false
  @Flag(help: "Only ask whether the device can do it.") var probe = false
  @Option(help: "The data, or as many bytes for the answer, as hexadecimal bytes.")
  var data: HexBytes?

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    var flags = feature.value & UInt32(VFIO_DEVICE_FEATURE_MASK)
    flags |= UInt32(set ? VFIO_DEVICE_FEATURE_SET : VFIO_DEVICE_FEATURE_GET)
    if probe { flags |= UInt32(VFIO_DEVICE_FEATURE_PROBE) }
    let payload = data?.bytes ?? []
    var header = vfio_device_feature()
    header.argsz = UInt32(Self.ioctl.size + payload.count)
    header.flags = flags
    var bytes = withUnsafeBytes(of: header) { [UInt8]($0) } + payload
    try session.issue(Self.ioctl, &bytes, on: target.device)
    return Report(
      Self.ioctl.name, fields: [.text("data", hexadecimal(bytes.dropFirst(Self.ioctl.size)))])
  }
}

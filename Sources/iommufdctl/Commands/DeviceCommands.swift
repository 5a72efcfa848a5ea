// VFIO device nodes: what a driver in user space does with a device.

internal import ArgumentParser
internal import CUAPI
internal import Glibc
internal import SystemPackage
internal import UAPI

let deviceCommands: [any ParsableCommand.Type] = [
  DeviceBind.self, DeviceAttach.self, DeviceDetach.self, DeviceGetInfo.self,
  DeviceGetRegionInfo.self, DeviceGetIRQInfo.self, DeviceSetIRQs.self, DeviceReset.self,
  DeviceFeature.self, RegionRead.self, RegionWrite.self,
]

struct DeviceOption: ParsableArguments {
  @Option(help: "Descriptor of the device node, inherited or from `open`.") var device: Int32
}

struct DeviceBind: Command {
  static let configuration = CommandConfiguration(
    commandName: "device-bind",
    abstract: "VFIO_DEVICE_BIND_IOMMUFD: put a device under an iommufd.",
    discussion: """
      The result is the device's object id.

        iommufdctl device-bind --fd 3 --device 4
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption

  func perform(in session: Session) throws(Failure) -> Report {
    let iommufd = try session.iommufdDescriptor()
    return try session.call(
      "VFIO_DEVICE_BIND_IOMMUFD", .vfioDeviceBindIOMMUFD, vfio_device_bind_iommufd(),
      on: target.device
    ) {
      $0.iommufd = iommufd
    } outputs: {
      [.decimal("out_devid", $0.out_devid)]
    }
  }
}

struct DeviceAttach: Command {
  static let configuration = CommandConfiguration(
    commandName: "device-attach",
    abstract: "VFIO_DEVICE_ATTACH_IOMMUFD_PT: route the device's DMA through a page table.",
    discussion: """
      Replaces what was attached. The result is the hardware page table's id.

        iommufdctl device-attach --device 4 --pt 1
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption
  @Option(help: "An address space or a hardware page table.") var pt: Word
  @Option(help: "For DMA with this PASID.") var pasid: Word?

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call(
      "VFIO_DEVICE_ATTACH_IOMMUFD_PT", .vfioDeviceAttachIOMMUFDPageTable,
      vfio_device_attach_iommufd_pt(), on: target.device
    ) {
      $0.pt_id = pt.value
      guard let pasid else { return }
      $0.flags = UInt32(VFIO_DEVICE_ATTACH_PASID)
      $0.pasid = pasid.value
    } outputs: {
      [.decimal("pt_id", $0.pt_id)]
    }
  }
}

struct DeviceDetach: Command {
  static let configuration = CommandConfiguration(
    commandName: "device-detach",
    abstract: "VFIO_DEVICE_DETACH_IOMMUFD_PT: block the device's DMA.",
    discussion: """
        iommufdctl device-detach --device 4
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption
  @Option(help: "DMA with this PASID.") var pasid: Word?

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call(
      "VFIO_DEVICE_DETACH_IOMMUFD_PT", .vfioDeviceDetachIOMMUFDPageTable,
      vfio_device_detach_iommufd_pt(), on: target.device
    ) {
      guard let pasid else { return }
      $0.flags = UInt32(VFIO_DEVICE_DETACH_PASID)
      $0.pasid = pasid.value
    }
  }
}

struct DeviceGetInfo: Command {
  static let configuration = CommandConfiguration(
    commandName: "device-get-info",
    abstract: "VFIO_DEVICE_GET_INFO.",
    discussion: """
        iommufdctl device-get-info --device 4
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call(
      "VFIO_DEVICE_GET_INFO", .vfioDeviceGetInfo, vfio_device_info(), on: target.device,
      outputs: {
        [
          .hex("flags", $0.flags), .decimal("num_regions", $0.num_regions),
          .decimal("num_irqs", $0.num_irqs),
        ]
      })
  }
}

struct DeviceGetRegionInfo: Command {
  static let configuration = CommandConfiguration(
    commandName: "device-get-region-info",
    abstract: "VFIO_DEVICE_GET_REGION_INFO.",
    discussion: """
      The result is the region's offset in the device file.

        iommufdctl device-get-region-info --device 4 --index 7
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption
  @Option(help: "0-5 BARs, 6 ROM, 7 configuration space.") var index: Word

  func perform(in session: Session) throws(Failure) -> Report {
    let info = try regionInfo(of: target.device, index: index.value, in: session)
    return Report(
      regionInfoName,
      fields: [.hex("offset", info.offset), .hex("size", info.size), .hex("flags", info.flags)])
  }
}

private let regionInfoName = "VFIO_DEVICE_GET_REGION_INFO"

private func regionInfo(
  of device: Int32, index: UInt32, in session: Session
) throws(Failure) -> vfio_region_info {
  var argument = session.sized(vfio_region_info())
  argument.index = index
  try session.issue(regionInfoName, .vfioDeviceGetRegionInfo, &argument, on: device)
  return argument
}

struct DeviceGetIRQInfo: Command {
  static let configuration = CommandConfiguration(
    commandName: "device-get-irq-info",
    abstract: "VFIO_DEVICE_GET_IRQ_INFO.",
    discussion: """
        iommufdctl device-get-irq-info --device 4 --index 2
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption
  @Option(help: "0 INTx, 1 MSI, 2 MSI-X, 3 error, 4 request.") var index: Word

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call(
      "VFIO_DEVICE_GET_IRQ_INFO", .vfioDeviceGetIRQInfo, vfio_irq_info(), on: target.device
    ) {
      $0.index = index.value
    } outputs: {
      [.decimal("count", $0.count), .hex("flags", $0.flags)]
    }
  }
}

struct DeviceSetIRQs: Command {
  static let configuration = CommandConfiguration(
    commandName: "device-set-irqs",
    abstract: "VFIO_DEVICE_SET_IRQS: connect, mask, unmask or trigger interrupts.",
    discussion: """
      With --eventfd the data are descriptors (none disconnects); with --bool they are bytes; with \
      neither there is no data, and --count 0 with `trigger` disables the whole index.

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
  @Option(help: "0 INTx, 1 MSI, 2 MSI-X, 3 error, 4 request.") var index: Word
  @Option(help: "mask, unmask or trigger.") var action = Action.trigger
  @Option(help: "First vector.") var start = Word(0)
  @Option(help: "Vectors, without data.") var count: Word?
  @Option(parsing: .upToNextOption, help: "Eventfds, or none, one a vector.")
  var eventfd: [EventDescriptor] = []
  @Option(parsing: .upToNextOption, help: "0 or 1, one a vector.") var bool: [UInt8] = []

  func perform(in session: Session) throws(Failure) -> Report {
    let (kind, data) = payload
    var header = vfio_irq_set_header()
    header.flags = UInt32(kind | action.flag)
    header.index = index.value
    header.start = start.value
    header.count = count?.value ?? UInt32(max(eventfd.count, bool.count))
    header.argsz = UInt32(MemoryLayout<vfio_irq_set_header>.size + data.count)
    var bytes = withUnsafeBytes(of: header) { [UInt8]($0) } + data
    let name = "VFIO_DEVICE_SET_IRQS"
    try session.issue(name, .vfioDeviceSetIRQs, &bytes, on: target.device)
    return Report(name)
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

/// The descriptor of an eventfd, or `none`: -1, which the option parser would take for an option.
struct EventDescriptor: ExpressibleByArgument {
  let number: Int32

  init?(argument: String) {
    guard let number = argument == "none" ? -1 : Int32(argument) else { return nil }
    self.number = number
  }
}

/// struct vfio_irq_set without its flexible array, which Swift does not import.
private struct vfio_irq_set_header {
  var argsz: UInt32 = 0
  var flags: UInt32 = 0
  var index: UInt32 = 0
  var start: UInt32 = 0
  var count: UInt32 = 0
}

struct DeviceReset: Command {
  static let configuration = CommandConfiguration(
    commandName: "device-reset",
    abstract: "VFIO_DEVICE_RESET.",
    discussion: """
        iommufdctl device-reset --device 4
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call("VFIO_DEVICE_RESET", .vfioDeviceReset, value: 0, on: target.device)
  }
}

struct DeviceFeature: Command {
  static let configuration = CommandConfiguration(
    commandName: "device-feature",
    abstract: "VFIO_DEVICE_FEATURE: probe, read or set a feature.",
    discussion: """
        iommufdctl device-feature --device 4 --feature 3 --probe
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var target: DeviceOption
  @Option(help: "The feature's number.") var feature: Word
  @Flag(help: "Set from the data; without it the feature is read.") var set = false
  @Flag(help: "Ask only whether the device has it.") var probe = false
  @Option(help: "The data, or the room for the answer, as hexadecimal bytes.") var data: HexBytes?

  func perform(in session: Session) throws(Failure) -> Report {
    var flags = feature.value & UInt32(VFIO_DEVICE_FEATURE_MASK)
    flags |= UInt32(set ? VFIO_DEVICE_FEATURE_SET : VFIO_DEVICE_FEATURE_GET)
    if probe { flags |= UInt32(VFIO_DEVICE_FEATURE_PROBE) }
    let payload = data?.bytes ?? []
    let header: [UInt32] = [UInt32(8 + payload.count), flags]
    var bytes = header.withUnsafeBytes { [UInt8]($0) } + payload
    let name = "VFIO_DEVICE_FEATURE"
    try session.issue(name, .vfioDeviceFeature, &bytes, on: target.device)
    return Report(name, fields: [.text("data", hexadecimal(bytes.dropFirst(8)))])
  }
}

/// A register of a device.
struct RegisterOptions: ParsableArguments {
  @OptionGroup var target: DeviceOption
  @Option(help: "0-5 BARs, 6 ROM, 7 configuration space.") var region: Word
  @Option(help: "Offset in the region.") var offset: Number
  @Option(help: "Bytes: 1, 2, 4 or 8.") var width: Int = 4

  /// Makes a call that moves `width` bytes at the register's place in the device file.
  func transfer(
    _ call: String, in session: Session,
    _ body: (_ device: Int32, _ width: Int, _ position: off_t) -> Int
  ) throws(Failure) {
    guard [1, 2, 4, 8].contains(width) else {
      throw .usage("--width is 1, 2, 4 or 8, not \(width)")
    }
    let info = try regionInfo(of: target.device, index: region.value, in: session)
    let count = body(
      target.device, width, off_t(truncatingIfNeeded: info.offset &+ offset.value))
    guard count >= 0 else { throw .call(call, Errno(rawValue: errno)) }
    guard count == width else {
      throw .usage(
        "region \(region.value) has \(count) of \(width) bytes at offset \(offset.value)")
    }
  }
}

struct RegionRead: Command {
  static let configuration = CommandConfiguration(
    commandName: "region-read",
    abstract: "Read a register: pread of a region of the device file.",
    discussion: """
      The result is the value, little endian.

        iommufdctl region-read --device 4 --region 7 --offset 0
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var register: RegisterOptions

  func perform(in session: Session) throws(Failure) -> Report {
    var value: UInt64 = 0
    try register.transfer("pread", in: session) { pread($0, &value, $1, $2) }
    return Report("pread", fields: [.hex("value", value)])
  }
}

struct RegionWrite: Command {
  static let configuration = CommandConfiguration(
    commandName: "region-write",
    abstract: "Write a register: pwrite to a region of the device file.",
    discussion: """
        iommufdctl region-write --device 4 --region 7 --offset 4 --width 2 0x6
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var register: RegisterOptions
  @Argument(help: "The value, stored little endian.") var value: Number

  func perform(in session: Session) throws(Failure) -> Report {
    var bytes = value.value.littleEndian
    try register.transfer("pwrite", in: session) { pwrite($0, &bytes, $1, $2) }
    return Report("pwrite")
  }
}

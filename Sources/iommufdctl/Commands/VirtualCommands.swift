// Virtual IOMMUs, what stands in them, and the queues that events arrive on.

internal import ArgumentParser
internal import CUAPI

let virtualCommands: [any ParsableCommand.Type] = [
  VIOMMUAlloc.self, VDeviceAlloc.self, HWQueueAlloc.self, FaultQueueAlloc.self,
  VEventQAlloc.self,
]

struct VIOMMUAlloc: Command {
  static let configuration = CommandConfiguration(
    commandName: "viommu-alloc", abstract: "IOMMU_VIOMMU_ALLOC: make a virtual IOMMU.",
    discussion: "The result is its id.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The bound device's object id.") var dev: Word
  @Option(help: "The nesting parent page table.") var hwpt: Word
  @Option(help: "1 SMMUv3, 2 Tegra241 CMDQV.") var type: Word
  @Option(help: "The type's data, as hexadecimal bytes in memory order.") var data: HexBytes?

  func perform(in session: Session) throws(Failure) -> Report {
    var bytes = data?.bytes ?? []
    var argument = iommu_viommu_alloc()
    argument.size = size(of: iommu_viommu_alloc.self)
    argument.type = type.value
    argument.dev_id = dev.value
    argument.hwpt_id = hwpt.value
    argument.data_len = UInt32(bytes.count)
    try withAddress(of: &bytes) { address throws(Failure) in
      argument.data_uptr = address
      try session.ioctl("IOMMU_VIOMMU_ALLOC", IOMMUFD_CMD_VIOMMU_ALLOC, &argument)
    }
    return Report(
      "IOMMU_VIOMMU_ALLOC",
      fields: [
        .init("out_viommu_id", .decimal(argument.out_viommu_id)),
        .init("data", .text(hexadecimal(bytes))),
      ])
  }
}

struct VDeviceAlloc: Command {
  static let configuration = CommandConfiguration(
    commandName: "vdevice-alloc",
    abstract: "IOMMU_VDEVICE_ALLOC: give a device its number in a virtual IOMMU.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The virtual IOMMU.") var viommu: Word
  @Option(help: "The bound device's object id.") var dev: Word
  @Option(help: "The device's stream, device or requester id there.") var virtID: Number

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = iommu_vdevice_alloc()
    argument.size = size(of: iommu_vdevice_alloc.self)
    argument.viommu_id = viommu.value
    argument.dev_id = dev.value
    argument.virt_id = virtID.value
    try session.ioctl("IOMMU_VDEVICE_ALLOC", IOMMUFD_CMD_VDEVICE_ALLOC, &argument)
    return Report(
      "IOMMU_VDEVICE_ALLOC", fields: [.init("out_vdevice_id", .decimal(argument.out_vdevice_id))])
  }
}

struct HWQueueAlloc: Command {
  static let configuration = CommandConfiguration(
    commandName: "hw-queue-alloc",
    abstract: "IOMMU_HW_QUEUE_ALLOC: let the hardware run a queue in guest memory.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The virtual IOMMU.") var viommu: Word
  @Option(help: "1 Tegra241 CMDQV.") var type: Word
  @Option(help: "Which queue.") var index: Word
  @Option(help: "Base of the queue, an IOVA of the nesting parent.") var iova: Number
  @Option(help: "Bytes.") var length: Number

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = iommu_hw_queue_alloc()
    argument.size = size(of: iommu_hw_queue_alloc.self)
    argument.viommu_id = viommu.value
    argument.type = type.value
    argument.index = index.value
    argument.nesting_parent_iova = iova.value
    argument.length = length.value
    try session.ioctl("IOMMU_HW_QUEUE_ALLOC", IOMMUFD_CMD_HW_QUEUE_ALLOC, &argument)
    return Report(
      "IOMMU_HW_QUEUE_ALLOC",
      fields: [.init("out_hw_queue_id", .decimal(argument.out_hw_queue_id))])
  }
}

struct FaultQueueAlloc: Command {
  static let configuration = CommandConfiguration(
    commandName: "fault-queue-alloc",
    abstract: "IOMMU_FAULT_QUEUE_ALLOC: make a queue that page requests arrive on.")
  @OptionGroup var options: CommonOptions

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = iommu_fault_alloc()
    argument.size = size(of: iommu_fault_alloc.self)
    try session.ioctl("IOMMU_FAULT_QUEUE_ALLOC", IOMMUFD_CMD_FAULT_QUEUE_ALLOC, &argument)
    return Report(
      "IOMMU_FAULT_QUEUE_ALLOC",
      fields: [
        .init("out_fault_id", .decimal(argument.out_fault_id)),
        .init("out_fault_fd", .decimal(argument.out_fault_fd)),
      ])
  }
}

struct VEventQAlloc: Command {
  static let configuration = CommandConfiguration(
    commandName: "veventq-alloc",
    abstract: "IOMMU_VEVENTQ_ALLOC: make a queue that a virtual IOMMU's events arrive on.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The virtual IOMMU.") var viommu: Word
  @Option(help: "1 SMMUv3, 2 Tegra241 CMDQV.") var type: Word
  @Option(help: "Events the queue holds.") var depth: Word

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = iommu_veventq_alloc()
    argument.size = size(of: iommu_veventq_alloc.self)
    argument.viommu_id = viommu.value
    argument.type = type.value
    argument.veventq_depth = depth.value
    try session.ioctl("IOMMU_VEVENTQ_ALLOC", IOMMUFD_CMD_VEVENTQ_ALLOC, &argument)
    return Report(
      "IOMMU_VEVENTQ_ALLOC",
      fields: [
        .init("out_veventq_id", .decimal(argument.out_veventq_id)),
        .init("out_veventq_fd", .decimal(argument.out_veventq_fd)),
      ])
  }
}

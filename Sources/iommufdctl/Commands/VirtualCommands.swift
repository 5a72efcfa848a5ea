// Virtual IOMMUs, what stands in them, and the queues that events arrive on.

internal import ArgumentParser
internal import CUAPI
internal import UAPI

let virtualCommands: [any ParsableCommand.Type] = [
  VIOMMUAlloc.self, VDeviceAlloc.self, HWQueueAlloc.self, FaultQueueAlloc.self,
  VEventQAlloc.self,
]

struct VIOMMUAlloc: Command {
  static let configuration = CommandConfiguration(
    commandName: "viommu-alloc",
    abstract: "IOMMU_VIOMMU_ALLOC: make a virtual IOMMU.",
    discussion: """
      The result is its id.

        iommufdctl viommu-alloc --fd 3 --dev 2 --hwpt 4 --type 1
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The bound device's object id.") var dev: Word
  @Option(help: "The nesting parent page table.") var hwpt: Word
  @Option(help: "1 SMMUv3, 2 Tegra241 CMDQV.") var type: Word
  @Option(help: "The type's data, as hexadecimal bytes in memory order.") var data: HexBytes?

  func perform(in session: Session) throws(Failure) -> Report {
    let bytes = data?.bytes ?? []
    return try session.call(
      "IOMMU_VIOMMU_ALLOC", .viommuAlloc, iommu_viommu_alloc(), data: bytes, at: \.data_uptr
    ) {
      $0.type = type.value
      $0.dev_id = dev.value
      $0.hwpt_id = hwpt.value
      $0.data_len = UInt32(bytes.count)
    } outputs: { viommu, data in
      [.decimal("out_viommu_id", viommu.out_viommu_id), .text("data", hexadecimal(data))]
    }
  }
}

struct VDeviceAlloc: Command {
  static let configuration = CommandConfiguration(
    commandName: "vdevice-alloc",
    abstract: "IOMMU_VDEVICE_ALLOC: give a device its number in a virtual IOMMU.",
    discussion: """
        iommufdctl vdevice-alloc --fd 3 --viommu 6 --dev 2 --virt-id 0x8
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The virtual IOMMU.") var viommu: Word
  @Option(help: "The bound device's object id.") var dev: Word
  @Option(help: "The device's stream, device or requester id there.") var virtID: Number

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call("IOMMU_VDEVICE_ALLOC", .vdeviceAlloc, iommu_vdevice_alloc()) {
      $0.viommu_id = viommu.value
      $0.dev_id = dev.value
      $0.virt_id = virtID.value
    } outputs: {
      [.decimal("out_vdevice_id", $0.out_vdevice_id)]
    }
  }
}

struct HWQueueAlloc: Command {
  static let configuration = CommandConfiguration(
    commandName: "hw-queue-alloc",
    abstract: "IOMMU_HW_QUEUE_ALLOC: let the hardware run a queue in guest memory.",
    discussion: """
        iommufdctl hw-queue-alloc --fd 3 --viommu 6 --type 1 --index 0 --iova 0x40000000 --length 64K
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The virtual IOMMU.") var viommu: Word
  @Option(help: "1 Tegra241 CMDQV.") var type: Word
  @Option(help: "Which queue.") var index: Word
  @Option(help: "Base of the queue, an IOVA of the nesting parent.") var iova: Number
  @Option(help: "Bytes, as 4096, 0x1000 or 4K.") var length: Number

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call("IOMMU_HW_QUEUE_ALLOC", .hardwareQueueAlloc, iommu_hw_queue_alloc()) {
      $0.viommu_id = viommu.value
      $0.type = type.value
      $0.index = index.value
      $0.nesting_parent_iova = iova.value
      $0.length = length.value
    } outputs: {
      [.decimal("out_hw_queue_id", $0.out_hw_queue_id)]
    }
  }
}

struct FaultQueueAlloc: Command {
  static let configuration = CommandConfiguration(
    commandName: "fault-queue-alloc",
    abstract: "IOMMU_FAULT_QUEUE_ALLOC: make a queue that page requests arrive on.",
    discussion: """
        iommufdctl fault-queue-alloc --fd 3
      """)
  @OptionGroup var options: CommonOptions

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call(
      "IOMMU_FAULT_QUEUE_ALLOC", .faultQueueAlloc, iommu_fault_alloc(),
      outputs: {
        [.decimal("out_fault_id", $0.out_fault_id), .decimal("out_fault_fd", $0.out_fault_fd)]
      })
  }
}

struct VEventQAlloc: Command {
  static let configuration = CommandConfiguration(
    commandName: "veventq-alloc",
    abstract: "IOMMU_VEVENTQ_ALLOC: make a queue that a virtual IOMMU's events arrive on.",
    discussion: """
        iommufdctl veventq-alloc --fd 3 --viommu 6 --type 1 --depth 16
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The virtual IOMMU.") var viommu: Word
  @Option(help: "1 SMMUv3, 2 Tegra241 CMDQV.") var type: Word
  @Option(help: "Events the queue holds.") var depth: Word

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call("IOMMU_VEVENTQ_ALLOC", .veventqAlloc, iommu_veventq_alloc()) {
      $0.viommu_id = viommu.value
      $0.type = type.value
      $0.veventq_depth = depth.value
    } outputs: {
      [
        .decimal("out_veventq_id", $0.out_veventq_id),
        .decimal("out_veventq_fd", $0.out_veventq_fd),
      ]
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

// The ioctls on virtual IOMMUs, on the objects of a virtual IOMMU, and on the queues that page
// requests and events arrive on.

internal import ArgumentParser
internal import CUAPI
internal import UAPI

let virtualCommands: [any ParsableCommand.Type] = [
  VIOMMUAlloc.self, VDeviceAlloc.self, HWQueueAlloc.self, FaultQueueAlloc.self,
  VEventQAlloc.self,
]

struct VIOMMUAlloc: IoctlCommand {
  static let ioctl = Ioctl.viommuAlloc
  static let configuration = ioctlConfiguration(
    "viommu-alloc", "make a virtual IOMMU (vIOMMU).",
    discussion: """
      A vIOMMU is the part of an IOMMU that one guest sees. Its nesting parent maps the guest's \
      memory. The result is its object ID.

        iommufdctl viommu-alloc --fd 3 --dev 2 --hwpt 4 --type 1
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of a bound device behind the IOMMU.") var dev: Word
  @Option(help: "Object ID of the nesting parent.") var hwpt: Word
  @Option(help: "Type: 1 SMMUv3, 2 Tegra241 CMDQV.") var type: Word
  @Option(help: "The data of the type, as hexadecimal bytes in memory order.") var data: HexBytes?

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    let bytes = data?.bytes ?? []
    return try session.call(Self.ioctl, iommu_viommu_alloc(), data: bytes, at: \.data_uptr) {
      $0.type = type.value
      $0.dev_id = dev.value
      $0.hwpt_id = hwpt.value
      $0.data_len = UInt32(bytes.count)
    } outputs: { viommu, data in
      [.decimal("out_viommu_id", viommu.out_viommu_id), .text("data", hexadecimal(data))]
    }
  }
}

struct VDeviceAlloc: IoctlCommand {
  static let ioctl = Ioctl.vdeviceAlloc
  static let configuration = ioctlConfiguration(
    "vdevice-alloc", "give a device its ID in a vIOMMU (vDEVICE).",
    discussion: """
      The result is the object ID of the vDEVICE. EEXIST: the ID is in use in this vIOMMU, or the \
      device has a vDEVICE already.

        iommufdctl vdevice-alloc --fd 3 --viommu 6 --dev 2 --virt-id 0x8
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of the vIOMMU.") var viommu: Word
  @Option(help: "Object ID of the bound device.") var dev: Word
  @Option(
    help: """
      The guest's ID of the device: stream ID (SMMUv3), device ID (AMD) or requester ID (VT-d).
      """)
  var virtID: Number

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, iommu_vdevice_alloc()) {
      $0.viommu_id = viommu.value
      $0.dev_id = dev.value
      $0.virt_id = virtID.value
    } outputs: {
      [.decimal("out_vdevice_id", $0.out_vdevice_id)]
    }
  }
}

struct HWQueueAlloc: IoctlCommand {
  static let ioctl = Ioctl.hardwareQueueAlloc
  static let configuration = ioctlConfiguration(
    "hw-queue-alloc", "let the hardware execute a queue in guest memory.",
    discussion: """
      The memory of the queue stays pinned until the queue is destroyed. The result is its object \
      ID.

        iommufdctl hw-queue-alloc --fd 3 --viommu 6 --type 1 --index 0 \\
          --iova 0x40000000 --length 64K
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of the vIOMMU.") var viommu: Word
  @Option(help: "Type: 1 Tegra241 CMDQV.") var type: Word
  @Option(help: "Index of the queue in the vIOMMU.") var index: Word
  @Option(help: "Base of the queue, an IOVA of the nesting parent.") var iova: Number
  @Option(help: "Bytes, for example 4096, 0x1000 or 4K.") var length: Number

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, iommu_hw_queue_alloc()) {
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

struct FaultQueueAlloc: IoctlCommand {
  static let ioctl = Ioctl.faultQueueAlloc
  static let configuration = ioctlConfiguration(
    "fault-queue-alloc", "make a queue for page requests.",
    discussion: """
      `hwpt-alloc --fault` names the queue. The result is its object ID; `out_fault_fd` is the \
      descriptor to read page requests from and to write responses to.

        iommufdctl fault-queue-alloc --fd 3
      """)
  @OptionGroup var options: CommonOptions

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(
      Self.ioctl, iommu_fault_alloc(),
      outputs: {
        [.decimal("out_fault_id", $0.out_fault_id), .decimal("out_fault_fd", $0.out_fault_fd)]
      })
  }
}

struct VEventQAlloc: IoctlCommand {
  static let ioctl = Ioctl.veventqAlloc
  static let configuration = ioctlConfiguration(
    "veventq-alloc", "make a queue for the events of a vIOMMU (vEVENTQ).",
    discussion: """
      A vIOMMU has at most one queue of each type. The result is its object ID; `out_veventq_fd` \
      is the descriptor to read events from.

        iommufdctl veventq-alloc --fd 3 --viommu 6 --type 1 --depth 16
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of the vIOMMU.") var viommu: Word
  @Option(help: "Type: 1 SMMUv3, 2 Tegra241 CMDQV.") var type: Word
  @Option(help: "Events that the queue can hold.") var depth: Word

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, iommu_veventq_alloc()) {
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
